"""A summary in a format that others read. A new format is one function with @_format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import as_json, rows
from bnbench.base import files
from bnbench.reports.formats.escapes import csv_cell, latex_text, markdown_text
from bnbench.reports.sentences.verdicts import speed_sentences, verdict_sentences
from bnbench.reports.tables.all import Table, layer_lists, tables

#: Name -> function that writes a summary in that format; every text ends with a newline.
FORMATS: dict[str, Callable[[Summary], str]] = {}


def _format(name: str) -> Callable[[Callable[[Summary], str]], Callable[[Summary], str]]:
    def add(function: Callable[[Summary], str]) -> Callable[[Summary], str]:
        FORMATS[name] = function
        return function

    return add


@_format("json")
def to_json(summary: Summary) -> str:
    """Everything: what the tables show and every run. Strict JSON, null for what is not finite."""
    return files.to_json(as_json(summary), ascii=True)


@_format("csv")
def to_csv(summary: Summary) -> str:
    """One row a run, full precision, empty where there is no number."""
    return files.to_csv(rows(summary), cell=csv_cell)


@_format("markdown")
def to_markdown(summary: Summary) -> str:
    """The verdicts, the tables and the layers, for a README or an issue."""
    lists = {
        "Verdict": verdict_sentences(summary),
        "Cautions": summary.cautions,
        "Speed": speed_sentences(summary),
        "Warnings": summary.warnings,
    }
    return markdown(summary.name, lists, (*tables(summary), layer_lists(summary)))


def markdown(title: str, lists: Mapping[str, Sequence[str]], shown: Iterable[Table]) -> str:
    """A document: its title, lists of sentences under their own titles, and tables."""
    parts = [f"# {markdown_text(title)}"]
    for heading, lines in lists.items():
        if lines:
            parts += [f"## {heading}", "\n".join(f"- {markdown_text(line)}" for line in lines)]
    parts += map(markdown_table, shown)
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table under its title, its caption below."""
    marks = ["---" if side == "l" else "---:" for side in table.align]
    head, *rows = [list(map(markdown_text, line)) for line in (table.columns, *table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *rows))
    return f"## {markdown_text(table.title)}\n\n{body}\n\n{markdown_text(table.caption)}"


@_format("latex")
def to_latex(summary: Summary) -> str:
    r"""The tables for a paper: \usepackage{booktabs} is all they need."""
    return latex(tables(summary), summary.cautions)


def latex(shown: Iterable[Table], cautions: Sequence[str] = ()) -> str:
    """Tables, one after the other; the cautions in the caption of those with a verdict, which may stand alone."""
    limits = "".join(f" Caution: {text}" for text in cautions)
    found = (replace(t, caption=f"{t.caption}{limits}") if "verdict" in t.columns else t for t in shown)
    return "\n\n".join(map(_latex_table, found)) + "\n"


def _latex_table(table: Table) -> str:
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(table.title)}. {latex_text(table.caption)}}}",
        rf"  \begin{{tabular}}{{{table.align}}}",
        r"    \toprule",
        f"    {_latex_row(table.columns)}",
        r"    \midrule",
        *(f"    {_latex_row(row)}" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex_row(cells: tuple[str, ...]) -> str:
    # {} before a "[" or "*": at the start of a row, after \\, it would be read as an option
    texts = [f"{{}}{latex_text(cell)}" if cell.startswith(("[", "*")) else latex_text(cell) for cell in cells]
    return " & ".join(texts) + r" \\"
