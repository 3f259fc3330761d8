"""What `check` and `list` show: a plan with its cost, and everything that has a name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bnbench.config import Study, Vocabulary
from bnbench.plan import CellEstimate

_KINDS = {
    "dataset": "Data sets",
    "model": "Models",
    "norm": "Normalizers",
    "optimizer": "Optimizers",
    "schedule": "Schedules",
    "loss": "Losses",
}


def print_plan(console: Console, study: Study, estimates: Sequence[CellEstimate]) -> None:
    """The runs of a study and what they will cost."""
    seeds = len(study.seeds)
    table = Table(
        title=f"{study.name}: {len(estimates)} variants x {seeds} seeds = {len(estimates) * seeds} runs"
    )
    for column in ("variant", "parameters", "steps a run", "time a run", "memory"):
        table.add_column(column, justify="left" if column == "variant" else "right", overflow="fold")
    for cell in estimates:
        table.add_row(
            cell.label,
            f"{cell.num_parameters:,}",
            f"{cell.steps:,}",
            f"about {duration(cell.seconds)}",
            f"about {cell.memory_bytes / 2**20:,.0f} MiB",
        )
    console.print(table)
    total = seeds * sum(cell.seconds for cell in estimates)
    console.print(f"No mistakes. All runs together: about {duration(total)}, one after the other.")
    console.print(f"Baseline: {study.baseline}. Seeds: {', '.join(map(str, study.seeds))}.")
    for target in study.targets:
        console.print(f"Target: {target.metric} {target.value:g}.")
    for warning in study.warnings:
        console.print(f"Warning: {warning}", soft_wrap=True, markup=False)


def print_names(console: Console, vocabulary: Vocabulary, studies: Sequence[Path]) -> None:
    """Everything that a study can name, with its options, and the studies that are shipped."""
    for key, title in _KINDS.items():
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for name, entry in vocabulary[key].items():
            options = ", ".join(entry.options().model_fields)
            summary = escape(entry.summary)
            table.add_row(name, f"{summary}\n[dim]{options}[/dim]" if options else summary)
        console.print(table, "")
    table = Table(title="Studies", title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for path in studies:
        table.add_row(path.stem, description(path))
    console.print(table)
    console.print("\nRun one with `bnbench compare NAME`, or copy its file and change it:", style="dim")
    console.print(str(studies[0].parent) if studies else "none are installed", style="dim", soft_wrap=True)


def description(path: Path) -> str:
    """The comment at the top of a study, as one paragraph."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment)


def duration(seconds: float) -> str:
    """ "12 s", "4 min", "1.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
