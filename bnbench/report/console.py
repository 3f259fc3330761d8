"""A study's result on a terminal: the tables, the verdicts, and what the user should know besides."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from bnbench.analysis.contents import Summary
from bnbench.analysis.workloads import Workloads
from bnbench.plan import OUTCOMES
from bnbench.report.numbers import outcome_text
from bnbench.report.progress import LiveProgress
from bnbench.report.sentences import speed_sentences, verdict_sentences
from bnbench.report.small_curves import small_curves
from bnbench.report.tables import Table, layer_lists, tables
from bnbench.report.workload_tables import workload_sentences, workload_tables

__all__ = ["LiveProgress", "print_summary", "print_table", "print_workloads"]

#: Colours that differ for every kind of colour vision; the word says the same without them.
_STYLES = {
    "better": "bold blue",
    "worse": "bold yellow",
    **{outcome_text(outcome): "yellow" for outcome in OUTCOMES if outcome != "finished"},
    "FAILED": "bold yellow",
    "skipped": "dim",
}
#: Between columns; one space of it is the box's.
_GAP = "  "


def print_summary(console: Console, summary: Summary, *, layers: bool = False) -> None:
    """Every table, then the verdicts, warnings and notes: the answer stands last, where a terminal ends."""
    for table in [*tables(summary), *([layer_lists(summary)] if layers else [])]:
        print_table(console, table)
    curves = small_curves(summary)
    if curves.rows and not console.options.ascii_only:
        print_table(console, curves)
    _print_lines(console, "Notes", summary.notes)
    _print_lines(console, "Warnings", summary.warnings)
    _print_lines(console, "Speed", speed_sentences(summary))
    _print_lines(console, "Verdict", verdict_sentences(summary))
    _print_lines(console, "Cautions", summary.cautions)


def print_workloads(console: Console, workloads: Workloads) -> None:
    """What several studies say together, the answer last."""
    for table in workload_tables(workloads):
        print_table(console, table)
    _print_lines(console, "Notes", workloads.notes)
    _print_lines(console, "Over the workloads", workload_sentences(workloads))


def print_table(console: Console, table: Table) -> None:
    """One table, its cells on as many lines as the width asks for: a number is never cut or folded."""
    console.print(Text(table.title, style="bold"))
    console.print(_grid(_fitted(table, console.width)))
    console.print(Text(table.caption, style="dim"))
    console.print()


def _fitted(table: Table, width: int) -> Table:
    """The table as it is; else "(4 of 5)" and "[low, high]" on a second line; else words wrapped as well."""
    candidates = (table, _broken(table, wrap_words=False), _broken(table, wrap_words=True))
    return next((candidate for candidate in candidates if _width(candidate) <= width), candidates[-1])


def _broken(table: Table, *, wrap_words: bool) -> Table:
    columns = []
    for side, *cells in zip(table.align, table.columns, *table.rows, strict=True):
        if side == "r":
            columns.append([cell.replace(" (", "\n(").replace(" [", "\n[") for cell in cells])
        else:
            columns.append(_wrapped(cells) if wrap_words else cells)
    header, *rows = zip(*columns, strict=True)
    return replace(table, columns=header, rows=tuple(rows))


def _wrapped(cells: Sequence[str]) -> list[str]:
    """The cells of a column of words, none wider than its longest word."""
    longest = max(len(word) for cell in cells for word in cell.split())
    return [
        "\n".join(textwrap.wrap(cell, longest, break_long_words=False, break_on_hyphens=False))
        for cell in cells
    ]


def _width(table: Table) -> int:
    """Of the whole table; a last column of words (a message) needs no more than 30, as it wraps by itself."""
    widths = [
        max(len(line) for cell in cells for line in cell.split("\n"))
        for cells in zip(table.columns, *table.rows, strict=True)
    ]
    if table.align[-1] == "l":
        widths[-1] = min(widths[-1], 30)
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _grid(table: Table) -> Grid:
    """As rich draws it, with a variant's name in its first row alone."""
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, len(_GAP) - 1, 0, 0))
    last = len(table.columns) - 1
    for index, (column, side) in enumerate(zip(table.columns, table.align, strict=True)):
        justify: JustifyMethod = "left" if side == "l" else "right"
        is_message = side == "l" and index == last
        grid.add_column(Text(column), justify=justify, overflow="fold", no_wrap=not is_message)
    name = ""
    for first, *others in table.rows:
        cells = ["" if first == name else first, *others]
        grid.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
        name = first
    return grid


def _print_lines(console: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(Text(title, style="bold"))
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
    console.print()
