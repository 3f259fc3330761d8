r"""LaTeX: tables for a paper, in ASCII alone; \usepackage{booktabs} is all they need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnbench.reports.formats.escapes import latex_text
from bnbench.reports.formats.registry import Document, output_format

if TYPE_CHECKING:
    from bnbench.reports.sections import Lines
    from bnbench.reports.tables.table import Table

#: The lists of sentences that limit a verdict.
_CAUTIONS = "Cautions"


@output_format("latex")
def write(document: Document) -> str:
    """Tables with booktabs rules, a caption and a label; sentences as paragraphs. --tables main: one paper table."""
    parts = list(document.parts())
    blocks = []
    for title, sections in parts:
        limits = _limits(document, title)
        prefix = f"{_slug(title)}-" if len(parts) > 1 else ""
        blocks += [latex_section(section, limits, prefix) for section in sections if not _is_drawn(section)]
    return _unique_labels("\n\n".join(blocks) + "\n")


def _unique_labels(text: str) -> str:
    """LaTeX takes a label once: a second one gets a number, e.g. of studies named a_b and a-b."""
    seen: Counter[str] = Counter()

    def numbered(match: re.Match[str]) -> str:
        seen[match[1]] += 1
        return rf"\label{{{match[1]}}}" if seen[match[1]] == 1 else rf"\label{{{match[1]}-{seen[match[1]]}}}"

    return re.sub(r"\\label\{([^}]*)\}", numbered, text)


def latex_section(section: Lines | Table, cautions: Sequence[str] = (), prefix: str = "") -> str:
    """A table, or a paragraph of sentences. prefix: before the label, where several studies have the same tables."""
    from bnbench.reports.tables.table import Table

    if not isinstance(section, Table):
        return rf"\paragraph{{{latex_text(section.title)}}} {latex_text(' '.join(section.lines))}"
    return latex_table(section, cautions, prefix)


def latex_table(table: Table, cautions: Sequence[str] = (), prefix: str = "") -> str:
    """A table; the cautions stand in the caption of one with verdicts, which may be used alone."""
    limits = "".join(f" Caution: {text}" for text in cautions) if table.judges else ""
    table = replace(table, caption=f"{table.caption}{limits}".strip())
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(table.title)}. {latex_text(table.caption)}}}",
        rf"  \label{{tab:{prefix}{_slug(table.title)}}}",
        rf"  \begin{{tabular}}{{{table.align}}}",
        r"    \toprule",
        f"    {_row(table.columns)}",
        r"    \midrule",
        *(f"    {_row(row)}" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _is_drawn(section: Lines | Table) -> bool:
    """Whether it is made of block characters, which no TeX font has."""
    return getattr(section, "bars", False)


def _limits(document: Document, title: str) -> tuple[str, ...]:
    if title in document.studies:
        return document.studies[title].cautions
    return document.workloads.cautions if document.workloads else ()


def _row(cells: Sequence[str]) -> str:
    # {} before a "[" or "*": at the start of a row, after \\, it would be read as an option
    texts = [f"{{}}{latex_text(cell)}" if cell.startswith(("[", "*")) else latex_text(cell) for cell in cells]
    return " & ".join(texts) + r" \\"


def _slug(title: str) -> str:
    """For example "main-results": a label of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "table"
