"""A study's result on a terminal: the tables, the verdicts, notes, warnings and cautions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bnbench.analysis.contents import Summary
from bnbench.analysis.workloads import Workloads
from bnbench.base.terminal import one_line
from bnbench.reports.sentences.verdicts import speed_sentences, verdict_sentences
from bnbench.reports.tables.all import Table, layer_lists, tables
from bnbench.reports.tables.layout import table_lines, wrapped
from bnbench.reports.tables.small_curves import small_curves
from bnbench.reports.tables.workloads import workload_sentences, workload_tables

__all__ = ["print_lines", "print_summary", "print_table", "print_text", "print_workloads"]


def print_summary(console: Console, summary: Summary, *, layers: bool = False) -> None:
    """Every table, then the verdicts, warnings and notes: the answer stands last, where a terminal ends."""
    for table in [*tables(summary), *([layer_lists(summary)] if layers else [])]:
        print_table(console, table)
    curves = small_curves(summary)
    if curves.rows and not console.options.ascii_only:
        print_table(console, curves)
    print_lines(console, "Notes", summary.notes)
    print_lines(console, "Warnings", summary.warnings)
    print_lines(console, "Speed", speed_sentences(summary))
    print_lines(console, "Verdict", verdict_sentences(summary))
    print_lines(console, "Cautions", summary.cautions)


def print_workloads(console: Console, workloads: Workloads) -> None:
    """What several studies say together, the answer last."""
    for table in workload_tables(workloads):
        print_table(console, table)
    print_lines(console, "Notes", workloads.notes)
    print_lines(console, "Over the workloads", workload_sentences(workloads))
    print_lines(console, "Cautions", workloads.cautions)


def print_table(console: Console, table: Table) -> None:
    """One table, laid out for the width; nothing of it is cut."""
    print_text(console, table.title, style="bold")
    for line in table_lines(table, console.width, console.encoding):
        console.print(line, soft_wrap=True)
    if table.caption:
        print_text(console, table.caption, style="dim")
    console.print()


def print_text(console: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    """A paragraph, its lines broken at spaces alone: no name or number is broken."""
    for line in wrapped(one_line(text), console.width - indent):
        console.print(Text(" " * indent + line, style=style), soft_wrap=True)


def print_lines(console: Console, title: str, lines: Sequence[str]) -> None:
    """Sentences under a title; nothing where there are none."""
    if not lines:
        return
    print_text(console, title, style="bold")
    for line in lines:
        print_text(console, line, indent=2)
    console.print()
