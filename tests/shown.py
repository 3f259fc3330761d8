"""What a study looks like in each output, for the tests of what is shown."""

from __future__ import annotations

import io
from collections.abc import Mapping

from rich.console import Console

from bnbench.analysis.contents import Summary
from bnbench.analysis.workloads import compare_workloads
from bnbench.base.terminal_console import SafeConsole
from bnbench.reports.console import print_answer, print_sections
from bnbench.reports.formats import FORMATS, Document
from bnbench.reports.sections import section_names, sections


def print_everything(console: Console, summary: Summary) -> None:
    """As `--tables all` does."""
    print_sections(console, sections(summary, section_names()))


def everything(summary: Summary, width: int = 80) -> str:
    console = SafeConsole(file=io.StringIO(), width=width)
    print_everything(console, summary)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def answer(summary: Summary, width: int = 80) -> str:
    """What is printed without --tables."""
    console = SafeConsole(file=io.StringIO(), width=width)
    print_answer(console, summary)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def written(name: str, summary: Summary, *tables: str) -> str:
    """A study in one of the formats; tables: the names of --tables."""
    return FORMATS[name](Document({summary.name: summary}, names=tables or None))


def written_together(name: str, studies: Mapping[str, Summary], *tables: str) -> str:
    """Several studies in one of the formats."""
    return FORMATS[name](Document(studies, compare_workloads(studies), tables or None))
