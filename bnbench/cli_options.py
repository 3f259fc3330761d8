"""The options that several commands share, each declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Format(StrEnum):
    """What is printed on stdout at the end."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STUDY] [KEY=VALUE]...", help="A YAML file or a shipped study; then overrides."),
]
ManyWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STUDY]... [KEY=VALUE]...",
        help="YAML files or shipped studies; then overrides, for all of them.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Results folder; of several studies, the folder that theirs are in. [default: results/<study>]",
    ),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to train.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="BNBENCH_DATA_DIR",
        help="Where data sets are kept. [default: the platform's cache folder]",
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", exists=True, dir_okay=False, help="A Python file that registers your own names."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run again what is finished already.")]
FormatOption = Annotated[
    Format, typer.Option("--format", help="What to print on stdout; the rest goes to stderr.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables; only failures.")]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="Exit with 4 where this holds: 'builtin.test_accuracy < 0.95' (mean over seeds), or "
        "'custom.val_loss worse than builtin' (by the verdict). May be given several times."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks; stop at the first run that crashes.")]
