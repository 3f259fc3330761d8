"""Where the time of a comparison went, as a small table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bnbench.analysis.contents import Summary
from bnbench.plan import RunSpec


def print_profile(
    console: Console, phases: Mapping[str, float], trained: Sequence[RunSpec], shown: Sequence[Summary]
) -> None:
    """Seconds of every phase of this process; and what the runs just trained report of their training.

    trained: the runs that this command trained. Their training seconds add up over worker processes, so
    they can be more than the phase took; evaluation, made-up warm-up steps and waiting are not in them.
    """
    table = Table(
        "phase", "seconds", "share", box=box.SIMPLE, title="Where the time went", title_justify="left"
    )
    total = sum(phases.values())
    for name, took in phases.items():
        table.add_row(name, f"{took:.2f}", f"{took / total:.0%}")
    table.add_row("all", f"{total:.2f}", "100%", style="bold")
    console.print(table)
    keys = {(run.variant, run.cell, run.seed) for run in trained}
    seconds = [
        record.train_seconds
        for summary in shown
        for record in summary.runs
        if (record.variant, record.cell, record.seed) in keys
    ]
    if seconds:
        console.print(
            f"Training alone, added up over {len(seconds)} runs: {sum(seconds):.2f} s.", highlight=False
        )
