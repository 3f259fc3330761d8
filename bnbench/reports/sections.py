"""The sections of a study's report, by the names of --tables: lists of sentences, and the tables.

Heavy imports wait until a section is printed, because the command line needs the names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnbench.base.errors import UnknownNameError
from bnbench.reports.tables.all import TABLES, WORKLOAD_TABLES, tables, workload_tables

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.analysis.workloads import Workloads
    from bnbench.reports.tables.table import Table

#: The word for every name.
ALL = "all"


@dataclass(frozen=True)
class Lines:
    """Sentences under a title."""

    title: str
    lines: tuple[str, ...]


#: Name -> title, and a field of the summary or a function of reports/sentences ("module:function").
LINES = {
    "verdicts": ("Verdicts", "verdicts:verdict_sentences"),
    "cautions": ("Cautions", "cautions"),
    "speed": ("Speed", "speed:speed_sentences"),
    "inside": ("Inside the network", "inside:inside_sentences"),
    "warnings": ("Warnings", "warnings"),
    "notes": ("Notes", "notes"),
    "methods": ("Methods", "methods:methods_lines"),
}


def section_names() -> tuple[str, ...]:
    """Every name that --tables takes, in reading order."""
    return (*LINES, *TABLES, *WORKLOAD_TABLES)


def read_names(text: str) -> tuple[str, ...]:
    """The names in "main,target"; "all" stands for every one. Raises UnknownNameError with the nearest name.

    >>> read_names("main, target")
    ('main', 'target')
    """
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))
    for name in names or ("",):
        if name not in (ALL, *section_names()):
            raise UnknownNameError("table", name, (ALL, *section_names()))
    return section_names() if ALL in names else names


def sections(summary: Summary, names: Sequence[str]) -> Iterator[Lines | Table]:
    """The named sections that are not empty, in the order of the names."""
    for name in names:
        if name in LINES:
            title, source = LINES[name]
            if lines := _sentences(summary, source):
                yield Lines(title, lines)
        else:
            yield from tables(summary, [name])


def joint_sections(workloads: Workloads, names: Sequence[str]) -> Iterator[Lines | Table]:
    """The joint result of the studies: always its sentences, and the joint tables with these names."""
    from bnbench.reports.sentences.workloads import workload_sentences

    joint = {
        "Over the workloads": workload_sentences(workloads),
        "Cautions": workloads.cautions,
        "Notes": workloads.notes,
    }
    yield from (Lines(title, tuple(lines)) for title, lines in joint.items() if lines)
    yield from workload_tables(workloads, names)


def _sentences(summary: Summary, source: str) -> tuple[str, ...]:
    module, _, function = source.partition(":")
    if not function:
        return tuple(getattr(summary, source))
    return tuple(getattr(importlib.import_module(f"bnbench.reports.sentences.{module}"), function)(summary))
