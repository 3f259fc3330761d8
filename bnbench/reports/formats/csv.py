"""CSV: one row a run, the rows of the tables that are named, or one row for each part of a collection's claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnbench.reports.formats.escapes import csv_cell
from bnbench.reports.formats.registry import Document, output_format

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.results import StudyResults


@output_format("csv")
def write(document: Document) -> str:
    """One row per run, in full precision, with empty cells for missing numbers; with --tables, the tables' rows."""
    from bnbench.analysis.rows import rows

    if document.is_of_claims:
        from bnbench.reports.tables.claims import claim_rows

        return _text(claim_rows(document.claims, document.language))
    if document.names is not None:
        return _text(list(_cells(document)))
    if document.workloads is None:
        (summary,) = document.studies.values()
        return runs_text(summary)
    return _text(
        [{"study": name, **row} for name, summary in document.studies.items() for row in rows(summary)]
    )


def runs_text(summary: Summary) -> str:
    """The contents of summary.csv."""
    from bnbench.analysis.rows import rows

    return _text(rows(summary))


def probes_text(results: StudyResults) -> str:
    """The contents of the study's probes.csv."""
    from bnbench.analysis.inside.export import probe_records

    return _text(list(probe_records(results)))


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    from bnbench.base.files import to_csv

    return to_csv(rows, cell=csv_cell)


def _cells(document: Document) -> Iterator[dict[str, str]]:
    """Each row with its study and table, where there is more than one; a sentence is a row of its own."""
    from bnbench.reports.tables.table import Table

    parts = list(document.parts())
    titled = len({section.title for _, sections in parts for section in sections}) > 1
    for name, sections in parts:
        for section in sections:
            place = {
                **({"study": name} if len(parts) > 1 else {}),
                **({"table": section.title} if titled else {}),
            }
            if isinstance(section, Table):
                for row in section.rows:
                    yield place | dict(zip(section.columns, row, strict=True))
            else:
                for line in section.lines:
                    yield place | {"text": line}
