"""The options of how runs are trained: their states, their machines, their time. No result depends on them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from bnbench.base.running import LOCAL, RETRIES, SAVE_EVERY, Running, faults
from bnbench.base.running import OnLock as OnLockChoice
from bnbench.base.running import Resume as ResumeChoice
from bnbench.base.time_limit import command_began, read_time

_PANEL = "Machines and time"


def read_seconds(text: Any) -> float:
    """A number of seconds. Raises BadParameter."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of seconds, such as 30.") from None


def read_limit(text: Any) -> float:
    """Seconds from a time as it is written. Raises BadParameter."""
    try:
        return read_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


SaveEvery = Annotated[
    float,
    typer.Option(
        "--save-every",
        parser=read_seconds,
        metavar="SECONDS",
        rich_help_panel=_PANEL,
        help="How often a run saves its state, from which the same command goes on; 0: after every step.",
    ),
]
Resume = Annotated[
    ResumeChoice,
    typer.Option(
        "--resume", rich_help_panel=_PANEL, help="never: begin half-done runs again from their first step."
    ),
]
OnLock = Annotated[
    OnLockChoice,
    typer.Option(
        "--on-lock",
        rich_help_panel=_PANEL,
        help="Where another process trains into the results folder: join trains other runs, wait waits for it.",
    ),
]
TimeLimit = Annotated[
    Any,
    typer.Option(
        "--time-limit",
        parser=read_limit,
        metavar="TIME",
        rich_help_panel=_PANEL,
        help="Such as 10m, 90s, 1h30m or 2:30:00, for the whole command. Then runs save their state, tables of what "
        "is there follow, and the exit code is 5; the same command goes on.",
    ),
]


def read_executor(text: str) -> str:
    """A word of --executor. Raises BadParameter with the nearest one."""
    from bnbench.executors.base import ExecutorError
    from bnbench.executors.words import read_word

    try:
        return read_word(text).text
    except ExecutorError as error:
        raise typer.BadParameter(str(error).removeprefix("--executor ")) from None


Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        parser=read_executor,
        metavar="WORD",
        rich_help_panel=_PANEL,
        help="What trains: local, loky, dask, dask://HOST:PORT, ray, ray://HOST:PORT, slurm:FILE.yaml, or a function "
        "FILE.py:FACTORY that returns a concurrent.futures executor. --jobs: its workers.",
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        "--retries",
        metavar="N",
        rich_help_panel=_PANEL,
        help="How often runs are tried again whose worker was lost.",
    ),
]


def read_shard(text: Any) -> tuple[int, int]:
    """Numbers of a text such as 2/8. Raises BadParameter."""
    if isinstance(text, tuple):
        return text
    part, slash, parts = str(text).partition("/")
    if not (slash and _is_whole(part) and _is_whole(parts)):
        raise typer.BadParameter(f"{text!r} is not a part of so many, such as 2/8: the second of eight.")
    return int(part), int(parts)


def _is_whole(text: str) -> bool:
    return text.strip().isascii() and text.strip().isdecimal() and len(text) < 10


Shard = Annotated[
    Any,
    typer.Option(
        "--shard",
        parser=read_shard,
        metavar="K/N",
        rich_help_panel=_PANEL,
        help="Train the K-th of N parts of the runs, on one of N machines; `bnbench merge` puts them together.",
    ),
]


@dataclass(frozen=True)
class RunningOptions:
    """How runs are trained."""

    save_every: SaveEvery = SAVE_EVERY
    resume: Resume = "auto"
    executor: Executor = LOCAL
    retries: Retries = RETRIES
    on_lock: OnLock = "join"
    time_limit: TimeLimit = None
    shard: Shard = None

    def __post_init__(self) -> None:
        """The command begins now. Raises BadParameter with all that is wrong."""
        object.__setattr__(self, "started", command_began())
        given = {field.name: getattr(self, field.name) for field in fields(RunningOptions)}
        wrong = [f"--{name.replace('_', '-')}: {text}" for name, text in faults(given)]
        if wrong:
            raise typer.BadParameter("\n".join(wrong))

    def running(self) -> Running:
        """The same, for the functions that train."""
        return Running(**{field.name: getattr(self, field.name) for field in fields(RunningOptions)})

    def running_and_start(self) -> dict[str, Any]:
        """Arguments of `bnbench.api.session.Options`: how to train, and when the command began."""
        return {"running": self.running(), "started": self.started}  # type: ignore[attr-defined]
