"""The exit code of a command that trains or reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnbench.base.errors import (
    EXIT_DONE,
    EXIT_GATE,
    EXIT_INTERRUPTED,
    EXIT_NOT_EVERYTHING,
    EXIT_NOTHING_USABLE,
    EXIT_SOME_RUNS_CRASHED,
)

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary


def exit_code(
    summaries: Sequence[Summary],
    *,
    interrupted: bool = False,
    unreadable: bool = False,
    unfinished: bool = False,
) -> int:
    """The first that applies of 130, 1, 4, 3, 5 and 0; several studies count as one.

    unfinished: the time or a signal left runs for the next command. Where none of its runs has ended, that is the
    reason, and no fault: 5 in place of 1.
    """
    variants = [variant for summary in summaries for variant in summary.variants]
    outcomes = [run.outcome for variant in variants for run in variant.runs]
    if interrupted:
        return EXIT_INTERRUPTED
    if unfinished and not outcomes and not unreadable:
        return EXIT_NOT_EVERYTHING
    if unreadable or all(outcome == "crashed" for outcome in outcomes):
        return EXIT_NOTHING_USABLE
    if any(gate.failed for summary in summaries for gate in summary.gates):
        return EXIT_GATE
    if "crashed" in outcomes:
        return EXIT_SOME_RUNS_CRASHED
    return EXIT_NOT_EVERYTHING if unfinished else EXIT_DONE
