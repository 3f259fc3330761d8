"""Progress of a long read: a bar on a terminal's stderr, otherwise one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from bnbench.base.terminal import echo, one_line
from bnbench.base.terminal_console import console


def say(message: str) -> None:
    """One line on stderr."""
    echo(one_line(message), err=True)


@contextmanager
def progress(title: str, total: int | None, *, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes how much was done since its last call. total: None where unknown."""
    if not sys.stderr.isatty():
        say(title)
        yield lambda amount: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.advance(task, amount)
