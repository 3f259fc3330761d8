"""Replicated findings as a document: one function a format of --format."""

from __future__ import annotations

from collections.abc import Callable

from bnbench.analysis.findings.replication import Replication
from bnbench.base.files import to_csv, to_json
from bnbench.reports.findings.tables import findings_table, full_table
from bnbench.reports.findings.words import answer_text
from bnbench.reports.formats.escapes import csv_cell, markdown_text
from bnbench.reports.formats.latex import latex_table
from bnbench.reports.formats.markdown import markdown_table
from bnbench.reports.tables.table import Table


def as_json(replication: Replication) -> str:
    """Every claim with all its numbers in full precision."""
    values = {
        "schema_version": 1,
        "counts": replication.counts,
        "warnings": list(replication.warnings),
        "claims": replication.records,
    }
    return to_json(values, ascii=True)


def as_csv(replication: Replication) -> str:
    """One row a claim, in full precision."""
    rows = [
        {
            key: "; ".join(map(str, value)) if isinstance(value, list) else value
            for key, value in record.items()
        }
        for record in replication.records
    ]
    return to_csv(rows, cell=csv_cell)


def as_markdown(replication: Replication) -> str:
    """The table with claims in words, deviations and commands."""
    return f"{markdown_table(full_table(replication))}\n\n{markdown_text(answer_text(replication))}\n"


def as_latex(replication: Replication) -> str:
    """The short table, for a paper."""
    return f"{latex_table(findings_table(replication))}\n"


def list_as_csv(table: Table) -> str:
    """The list of findings, a row each."""
    return to_csv([dict(zip(table.columns, row, strict=True)) for row in table.rows], cell=csv_cell)


def list_as_json(table: Table) -> str:
    """The list of findings, a record each."""
    return to_json([dict(zip(table.columns, row, strict=True)) for row in table.rows], ascii=True)


LISTS: dict[str, Callable[[Table], str]] = {
    "json": list_as_json,
    "csv": list_as_csv,
    "markdown": lambda table: f"{markdown_table(table)}\n",
    "latex": lambda table: f"{latex_table(table)}\n",
}
DOCUMENTS: dict[str, Callable[[Replication], str]] = {
    "json": as_json,
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}
