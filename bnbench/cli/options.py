"""The options that several commands share, each declared once; then those of `verify`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bnbench.base.running import LOCAL
from bnbench.cli.display import TABLE, Display
from bnbench.cli.running_options import RunningOptions
from bnbench.cli.words import command_without_seeds

if TYPE_CHECKING:
    from bnbench.api.session import Options

from bnbench.base.errors import UnknownNameError, unknown_name
from bnbench.base.words import ENGLISH, LANGUAGES, known_language
from bnbench.reports.formats import FORMATS
from bnbench.reports.sections import read_names, section_names


class Device(StrEnum):
    """The device and its settings."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


def user_path(text: str) -> Path:
    """The path, with ~ as the user's home: no shell expands it in --output=~/x."""
    return Path(os.path.expanduser(text))


def user_file(text: str) -> Path:
    """The same, of a file that is there. Raises BadParameter."""
    path = user_path(text)
    if not path.is_file():
        raise typer.BadParameter(f"{text}: there is no such file.")
    return path


def read_format(text: str) -> str:
    """The name of a format. Raises BadParameter with the nearest one."""
    names = format_names()
    if text not in names:
        raise typer.BadParameter(unknown_name("format", text, names))
    return text


def format_names() -> tuple[str, ...]:
    """The choices of --format."""
    return (TABLE, *FORMATS)


def read_language(text: str) -> str:
    """The code of a language. Raises BadParameter with the known ones."""
    try:
        return known_language(text)
    except UnknownNameError as error:
        raise typer.BadParameter(str(error)) from None


def read_tables(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names of --tables. Raises BadParameter with the nearest one."""
    if isinstance(text, tuple):
        return text
    try:
        return read_names(text)
    except UnknownNameError as error:
        raise typer.BadParameter(str(error)) from None


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STUDY] [KEY=VALUE]...",
        help="A YAML file, - for standard input, or a shipped study; then overrides.",
    ),
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
        parser=user_path,
        metavar="PATH",
        help="Results folder. With several studies, the parent folder. Default: results/STUDY, or "
        "results/STUDY+KEY=VALUE with overrides; for train, results/STUDY-VARIANT.",
    ),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to train.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Processes that train at the same time; does not affect results. Default: about one per core on the CPU.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        parser=user_path,
        metavar="PATH",
        envvar="BNBENCH_DATA_DIR",
        help="Where data sets are kept. Default: the platform's cache folder.",
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        parser=user_file,
        metavar="FILE",
        help="A Python file that registers your own names.",
    ),
]
CompareModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Your own network in place of the study's: FILE.py:NAME, torchvision:ARCH, timm:ARCH or hf:CONFIG. "
        "Each variant's normalizer takes the place of its batch norms.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Train finished runs again.")]
Refresh = Annotated[
    Literal["changed"] | None,
    typer.Option(
        "--refresh",
        help="changed: train finished runs again that were trained with other versions, or on another "
        "device, processor or number of threads.",
    ),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        parser=read_format,
        metavar=f"[{'|'.join(format_names())}]",
        help="Print the result on stdout as text (table) or as a document; messages go to stderr.",
    ),
]
LanguageOption = Annotated[
    str,
    typer.Option(
        "--lang",
        parser=read_language,
        metavar=f"[{'|'.join(LANGUAGES)}]",
        help="Language of captions and of the claims table.",
    ),
]
TablesOption = Annotated[
    Any,
    typer.Option(
        "--tables",
        parser=read_tables,
        metavar="all|NAME,...",
        help=f"Print these instead of the short answer: all, or any of {', '.join(section_names())}.",
    ),
]
ProbeOption = Annotated[
    bool,
    typer.Option("--probe", help="Also measure inside the networks, as `probe: true` in the study does."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print neither progress nor tables, only failures.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the progress of every epoch.")]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="Exit with 4 if this holds: 'builtin.test_accuracy < 0.95' (mean over seeds), or "
        "'custom.val_loss worse than builtin' (by the verdict). May be given several times."
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option("--figures", metavar="DIR", help="Also write the figures there.", parser=user_path),
]
LookFigures = Annotated[
    Path | None,
    typer.Option(
        "--figures",
        metavar="DIR",
        help="Write the figures there. Default: figures in the results folder.",
        parser=user_path,
    ),
]
FigureFormat = Annotated[
    Literal["svg", "png", "pdf"], typer.Option("--figure-format", help="File format of the figures.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks; stop at the first run that crashes.")]
Profile = Annotated[bool, typer.Option("--profile", help="Print at the end how the time was spent.")]


@dataclass(frozen=True)
class Training(RunningOptions):
    """The options of every command that trains."""

    output: Output = None
    device: DeviceOption = Device.auto
    jobs: Jobs = None
    data_dir: DataDir = None
    plugin: Plugins = None
    model: CompareModel = None
    force: Force = False
    refresh: Refresh = None
    format: FormatOption = TABLE
    tables: TablesOption = None
    lang: LanguageOption = ENGLISH
    probe: ProbeOption = False
    quiet: Quiet = False
    debug: Debug = False

    def __post_init__(self) -> None:
        """Raises BadParameter where options contradict each other."""
        super().__post_init__()
        if self.debug and self.executor != LOCAL:
            raise typer.BadParameter(
                f"--debug trains in this process, and --executor {self.executor} does not: leave one of them out."
            )

    def overrides(self, words: Sequence[str]) -> list[str]:
        """The overrides, with what --probe and --model stand for."""
        return with_options(words, self.probe, self.model)

    @property
    def plugins(self) -> list[Path]:
        """The files of --plugin."""
        return self.plugin or []

    def options(self) -> Options:
        """The training options."""
        from bnbench.api.arguments import data_folder
        from bnbench.api.session import Options

        again: Literal["none", "changed", "all"] = (
            "all" if self.force else "changed" if self.refresh else "none"
        )
        given = again, self.debug, self.jobs
        return Options(self.device, data_folder(self.data_dir), *given, **self.running_and_start())

    def display(self, verbose: bool) -> Display:
        """The output options."""
        return Display(self.format, self.tables, self.quiet, verbose, command_without_seeds(), self.lang)


def with_options(overrides: Sequence[str], probe: bool, model: str | None) -> list[str]:
    """The overrides, with what --probe and --model stand for."""
    from bnbench.api.own_models import model_override

    given = [model_override(model)] if model is not None else []
    return [*overrides, *(["probe=true"] if probe else []), *given]
