"""A study's result on a terminal: the answer, one table and where the rest is; or the tables that were asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from bnbench.analysis.contents import Summary
from bnbench.analysis.workloads import Workloads
from bnbench.base.terminal import one_line
from bnbench.base.words import phrases
from bnbench.reports.answer import Answer, answer_of
from bnbench.reports.sections import Lines
from bnbench.reports.sentences.workloads import workload_sentences
from bnbench.reports.tables.all import workload_tables
from bnbench.reports.tables.claims import Entry, count_text
from bnbench.reports.tables.claims_layout import claim_lines
from bnbench.reports.tables.layout import UNBROKEN, table_lines, wrapped
from bnbench.reports.tables.table import Table

#: More curves than this are left to --tables curves.
MOST_CURVES = 6


@dataclass(frozen=True)
class Places:
    """Pointers to more output: the report, the command for the other tables, and the command of this run."""

    report: str = ""
    more: str = ""
    command: str = ""


NOWHERE = Places()


def print_answer(console: Console, summary: Summary, places: Places = NOWHERE) -> None:
    """Print the comparison, the verdicts with their cautions, one table, the curves and the path of the rest."""
    lay_out(console, answer_of(summary, places.command), places)


def lay_out(console: Console, answer: Answer, places: Places = NOWHERE) -> None:
    """Print an answer for the console's width."""
    print_text(console, answer.title, style="bold")
    console.print()
    _print_verdicts(console, answer.verdicts)
    console.print()
    if answer.claims:
        _print_claims(console, answer.claims, answer.language)
    print_table(console, answer.table, headed=False)
    _print_curves(console, answer.curves, of_best=answer.of_best)
    if answer.inside:
        print_text(console, answer.inside)
    if places.report:
        print_text(console, f"Report: {places.report}")
    if places.more:
        console.print(Text(f"All tables: {one_line(places.more)}"), soft_wrap=True)


def _print_curves(console: Console, curves: Table, *, of_best: bool) -> None:
    """A line a variant, the name of the metric behind the last number; on a narrow screen, the names above.

    of_best: the study is a sweep, and each variant stands at its best setting.
    """
    if not 0 < len(curves.rows) <= MOST_CURVES or console.options.ascii_only:
        return
    metric = f"{curves.columns[1]}{', best setting' if of_best else ''}"
    room = max(cell_len(name) for name, _ in curves.rows) + 2
    rows = [(name, f"{curve} {metric}") for name, curve in curves.rows]
    narrow = any(room + cell_len(curve) > console.width for _, curve in rows)
    for name, curve in rows:
        if narrow:
            print_text(console, name)
            print_text(console, curve, indent=2)
        else:
            print_text(console, f"{name}{' ' * (room - cell_len(name))}{curve}")
    console.print()


def print_sections(console: Console, parts: Iterable[Lines | Table]) -> None:
    """Tables, then sentences: what answers the question stands last, where a terminal ends."""
    parts = list(parts)
    for table in (part for part in parts if isinstance(part, Table)):
        if not (table.bars and console.options.ascii_only):
            print_table(console, table)
    for part in reversed([part for part in parts if isinstance(part, Lines)]):
        print_lines(console, part.title, part.lines)


def print_joint_answer(console: Console, workloads: Workloads) -> None:
    """Print the joint result of the studies: sentences and one table."""
    _print_verdicts(console, workload_sentences(workloads))
    _print_verdicts(console, [f"Caution: {text}" for text in workloads.cautions])
    console.print()
    for table in workload_tables(workloads, ["joint-differences"]):
        print_table(console, table)
    print_lines(console, "Notes", workloads.notes)


def print_claims(
    console: Console, title: str, entries: Sequence[Entry], language: str, report: str = ""
) -> None:
    """The claims of a collection, each with its verdict; then what the verdicts mean, and where the page is."""
    say = phrases(language)
    print_text(console, f"{title}: {count_text(entries, say)}", style="bold")
    console.print()
    _print_claims(console, entries, language)
    print_text(console, say("claims.caption"), style="dim")
    if report:
        print_text(console, say("claims.report", path=report))


def _print_claims(console: Console, entries: Sequence[Entry], language: str) -> None:
    for line in claim_lines(entries, console.width, language):
        console.print(line, soft_wrap=True)
    console.print()


def print_table(console: Console, table: Table, *, headed: bool = True, captioned: bool = True) -> None:
    """One table, laid out for the width; nothing of it is cut."""
    if headed:
        print_text(console, table.title, style="bold")
    for line in table_lines(table, console.width, console.encoding):
        console.print(line, soft_wrap=True)
    if table.caption and captioned:
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


def _print_verdicts(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        # a command is not broken, so that it can be copied
        whole = re.sub(r"`[^`]*`", lambda match: match[0].replace(" ", UNBROKEN), one_line(line))
        first, *others = wrapped(whole, console.width - 4)
        console.print(Text(f"  {first}"), soft_wrap=True)
        for other in others:
            console.print(Text(f"    {other}"), soft_wrap=True)
