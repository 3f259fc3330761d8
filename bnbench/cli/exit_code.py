"""The exit code of a command that trains or reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnbench.base.errors import (
    EXIT_DONE,
    EXIT_GATE,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_USABLE,
    EXIT_SOME_RUNS_CRASHED,
)

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary


def exit_code(summaries: Sequence[Summary], *, interrupted: bool = False, unreadable: bool = False) -> int:
    """The first that applies of 130, 1, 4, 3 and 0; several studies count as one."""
    variants = [variant for summary in summaries for variant in summary.variants]
    if interrupted:
        return EXIT_INTERRUPTED
    if unreadable or not any(run.outcome != "crashed" for variant in variants for run in variant.runs):
        return EXIT_NOTHING_USABLE
    if any(gate.failed for summary in summaries for gate in summary.gates):
        return EXIT_GATE
    return EXIT_SOME_RUNS_CRASHED if any(variant.outcomes["crashed"] for variant in variants) else EXIT_DONE
