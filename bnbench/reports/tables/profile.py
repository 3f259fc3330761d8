"""The run time of a comparison by phase, as a small table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from bnbench.analysis.contents import Summary
from bnbench.reports.console import print_table, print_text
from bnbench.reports.numbers import NOTHING
from bnbench.reports.tables.table import Table
from bnbench.study.plan import RunSpec


def print_profile(
    console: Console, phases: Mapping[str, float], trained: Sequence[RunSpec], summaries: Sequence[Summary]
) -> None:
    """Seconds of every phase of this process; and what the runs just trained report of their training.

    trained: the runs that this command trained. Their training seconds add up over worker processes, so
    they can be more than the phase took; evaluation, made-up warm-up steps and waiting are not in them.
    """
    total = sum(phases.values())
    rows = [(name, f"{seconds:.2f}", share_text(seconds, total)) for name, seconds in phases.items()]
    rows.append(("all", f"{total:.2f}", share_text(total, total)))
    print_table(console, Table("Run time by phase", "", ("phase", "seconds", "share"), tuple(rows), "lrr"))
    keys = {(run.variant, run.cell, run.seed) for run in trained}
    seconds = [
        record.train_seconds
        for summary in summaries
        for record in summary.runs
        if (record.variant, record.cell, record.seed) in keys
    ]
    if seconds:
        print_text(console, f"Training alone, added up over {len(seconds)} runs: {sum(seconds):.2f} s.")


def share_text(part: float, whole: float) -> str:
    """A share in percent; "–" where the whole is 0."""
    return f"{100 * part / whole:.0f}%" if whole > 0 else NOTHING
