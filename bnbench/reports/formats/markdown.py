"""Markdown: the verdicts and the tables, for a README or an issue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnbench.reports.formats.escapes import markdown_text
from bnbench.reports.formats.registry import Document, output_format

if TYPE_CHECKING:
    from bnbench.reports.sections import Lines
    from bnbench.reports.tables.table import Table


@output_format("markdown")
def write(document: Document) -> str:
    """For CommonMark and GitHub: a title for each study, sentences as lists, every table with its caption."""
    blocks = []
    for title, sections in document.parts():
        blocks.append(f"# {markdown_text(title)}")
        blocks += map(_section, sections)
    return "\n\n".join(blocks) + "\n"


def markdown_table(table: Table) -> str:
    """A table under its title, its caption below."""
    marks = ["---" if side == "l" else "---:" for side in table.align]
    head, *rows = [list(map(markdown_text, line)) for line in (table.columns, *table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *rows))
    return f"## {markdown_text(table.title)}\n\n{body}\n\n{markdown_text(table.caption)}"


def _section(section: Lines | Table) -> str:
    from bnbench.reports.tables.table import Table

    if isinstance(section, Table):
        return markdown_table(section)
    lines = "\n".join(f"- {markdown_text(line)}" for line in section.lines)
    return f"## {section.title}\n\n{lines}"
