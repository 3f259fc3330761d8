"""JSON: every number, every run and every sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bnbench.reports.formats.registry import Document, output_format

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.analysis.workloads import Workloads
    from bnbench.reports.sections import Lines
    from bnbench.reports.tables.table import Table


@output_format("json")
def write(document: Document) -> str:
    """Strict JSON, null for what is not finite; with --tables, those tables with their cells as text."""
    if document.names is not None:
        parts = [
            {"title": title, "sections": [_section(section) for section in sections]}
            for title, sections in document.parts()
        ]
        return _text(parts if len(parts) > 1 else parts[0])
    if document.collection:
        return _text(claims_values(document))
    if document.workloads is None:
        (summary,) = document.studies.values()
        return _text(summary_values(summary))
    studies = [summary_values(replace(summary, name=name)) for name, summary in document.studies.items()]
    return _text({"studies": studies, "workloads": workload_values(document.workloads)})


def summary_values(summary: Summary) -> dict[str, Any]:
    """The contents of summary.json: the numbers, and the sentences on them."""
    from bnbench.analysis.serial import as_json
    from bnbench.reports.sentences.headline import headline
    from bnbench.reports.sentences.methods import methods_paragraph
    from bnbench.reports.sentences.speed import speed_sentences
    from bnbench.reports.sentences.verdicts import verdict_sentences

    sentences = {
        "headline": headline(summary),
        "verdicts": verdict_sentences(summary),
        "speed": speed_sentences(summary),
        "methods": methods_paragraph(summary),
    }
    return {**as_json(summary), "sentences": sentences, "notes": list(summary.notes)}


def claims_values(document: Document) -> dict[str, Any]:
    """The claims of a collection in full precision, then its studies."""
    from bnbench.reports.tables.claims import claim_rows

    studies = [summary_values(replace(summary, name=name)) for name, summary in document.studies.items()]
    claims = claim_rows(document.claims, document.language)
    return {"collection": document.collection, "claims": claims, "studies": studies}


def workload_values(workloads: Workloads) -> dict[str, Any]:
    """The contents of workloads.json."""
    from bnbench.analysis.serial import workloads_as_json
    from bnbench.reports.sentences.workloads import workload_sentences

    return {**workloads_as_json(workloads), "sentences": workload_sentences(workloads)}


def _text(values: Any) -> str:
    from bnbench.base.files import to_json

    return to_json(values, ascii=True)


def _section(section: Lines | Table) -> dict[str, Any]:
    from bnbench.reports.tables.table import Table

    if isinstance(section, Table):
        rows = [list(row) for row in section.rows]
        return {
            "title": section.title,
            "caption": section.caption,
            "columns": list(section.columns),
            "rows": rows,
        }
    return {"title": section.title, "lines": list(section.lines)}
