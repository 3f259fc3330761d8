"""Runs of a results folder that are not done: those that a process trains now, and those that are paused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bnbench.analysis.contents import Summary
from bnbench.results import StudyResults
from bnbench.results.claims import Claims, Present, are_training
from bnbench.results.states import kept_steps

#: So often a picture is taken again that others change.
_TRIES = 5
Written = TypeVar("Written")


def are(count: int) -> str:
    """ "is" for one."""
    return "is" if count == 1 else "are"


def names_of(others: Iterable[Present]) -> str:
    """Such as "process 123 on node7"."""
    return " and ".join(str(other.owner) for other in others)


def with_left_over(summary: Summary, results: StudyResults, folder: Path) -> Summary:
    """The summary, whose limits say which runs are under way or paused."""
    left = tuple(left_over(results, folder))
    return replace(summary, limits=(*summary.limits, *left)) if left else summary


def words_present(folder: Path) -> set[str]:
    """Stand for the processes that are at a folder."""
    return {other.owner.word for other in Claims(folder).others()}


def until_settled(folder: Path, write: Callable[[], Written], before: set[str] | None = None) -> Written:
    """Read a folder and write what it says; again where another process has come or gone in between.

    Else an older picture could stay over the files that the other one wrote at its end. before: the processes that were
    at the folder before it was read for the first time.
    """
    before = words_present(folder) if before is None else before
    for _ in range(_TRIES):
        written = write()
        if (now := words_present(folder)) == before:
            break
        before = now
    return written


def left_over(results: StudyResults, folder: Path) -> Iterator[str]:
    """Sentences about the runs of a folder that are not done."""
    planned = sum(len(cell.seeds) for cell in results.cells)
    if planned == sum(len(cell.records) for cell in results.cells):
        return
    others = are_training(folder)
    count = sum(len(other.claims) for other in others)
    if count:
        runs = "run" if count == 1 else "runs"
        yield f"{count} {runs} {are(count)} still being trained by {names_of(others)}."
    elif paused := len(paused_runs(results, folder)):
        runs = "run is" if paused == 1 else "runs are"
        yield f"{paused} {runs} paused at a kept state; the command that began them goes on from there."


def paused_runs(results: StudyResults, folder: Path) -> dict[tuple[str, str, int], int]:
    """The steps of the last states of runs that are not done, by variant, cell and seed."""
    steps = kept_steps(folder)
    found = {}
    for cell in results.cells if steps else ():
        ended = {record.seed for record in cell.records}
        for seed in cell.seeds:
            step = steps.get((f"{cell.variant}-{cell.cell}", seed))
            if step and seed not in ended:
                found[cell.variant, cell.cell, seed] = step
    return found
