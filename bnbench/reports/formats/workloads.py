"""Several studies as one document that others read, in each of the formats of one study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import as_json, rows, workloads_as_json
from bnbench.analysis.workloads import Workloads
from bnbench.base import files
from bnbench.reports.formats.escapes import csv_cell
from bnbench.reports.formats.export import latex, markdown, to_latex, to_markdown
from bnbench.reports.tables.workloads import workload_sentences, workload_tables

Studies = Mapping[str, Summary]


def workloads_to_json(workloads: Workloads) -> str:
    """What workloads.json holds: strict JSON, null for what is not finite."""
    return files.to_json(workloads_as_json(workloads), ascii=True)


def _to_json(studies: Studies, workloads: Workloads) -> str:
    found = [as_json(summary) for summary in _named(studies)]
    return files.to_json({"studies": found, "workloads": workloads_as_json(workloads)}, ascii=True)


def _named(studies: Studies) -> list[Summary]:
    """Each under the name of its workload, which differs from the study's where two studies have the same."""
    return [replace(summary, name=name) for name, summary in studies.items()]


def _to_csv(studies: Studies, workloads: Workloads) -> str:
    """One row a run, as of one study, after the name of its workload."""
    named = [{"study": name, **row} for name, summary in studies.items() for row in rows(summary)]
    return files.to_csv(named, cell=csv_cell)


def _to_markdown(studies: Studies, workloads: Workloads) -> str:
    lists = {
        "Over the workloads": workload_sentences(workloads),
        "Cautions": workloads.cautions,
        "Notes": workloads.notes,
    }
    title = f"Workloads: {', '.join(workloads.names)}"
    return "\n".join([*map(to_markdown, _named(studies)), markdown(title, lists, workload_tables(workloads))])


def _to_latex(studies: Studies, workloads: Workloads) -> str:
    return "\n".join([*map(to_latex, _named(studies)), latex(workload_tables(workloads), workloads.cautions)])


#: Name of a format -> function that writes several studies in it; the names are those of `export.FORMATS`.
FORMATS: dict[str, Callable[[Studies, Workloads], str]] = {
    "json": _to_json,
    "csv": _to_csv,
    "markdown": _to_markdown,
    "latex": _to_latex,
}
