"""The list of the tables, by the names of --tables. A new table is one line here.

Nothing is imported before a table is made, since the command line asks for the names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.analysis.workloads import Workloads
    from bnbench.reports.tables.table import Table

#: Name -> module of this room and its function, which returns a table or several; in reading order.
TABLES = {
    "main": "main:main_table",
    "claims": "claims:claims_table",
    "metrics": "metrics:metric_tables",
    "classes": "metrics:class_table",
    "seeds": "differences:seeds_table",
    "scatter": "outcomes:noise_table",
    "differences": "differences:difference_tables",
    "robustness": "differences:robustness_tables",
    "equivalence": "differences:equivalence_tables",
    "agreement": "agreement:agreement_table",
    "best-settings": "sweeps:best_tables",
    "usable-range": "sweeps:usable_tables",
    "effect-by-setting": "sweeps:interaction_tables",
    "target": "speed:target_tables",
    "speed-up": "speed:speed_up_tables",
    "area": "speed:area_tables",
    "cost": "outcomes:cost_table",
    "success": "outcomes:rates_table",
    "failures": "outcomes:failure_table",
    "probes": "inside:probe_tables",
    "curves": "small_curves:small_curves",
    "layers": "layers:layer_lists",
}
#: The same for several studies together.
WORKLOAD_TABLES = {
    "joint-differences": "workloads:difference_table",
    "joint-verdicts": "workloads:verdict_table",
    "joint-speed-up": "workloads:speed_table",
    "joint-profiles": "workloads:profile_tables",
}
#: Tables that a page has in places of their own: before the others, and after them.
_APART = ("main", "curves", "layers")


def tables(summary: Summary, names: Iterable[str] | None = None) -> list[Table]:
    """The tables of these names that have something to show; without names, all that make up a study's numbers."""
    chosen = [name for name in TABLES if name not in _APART] if names is None else names
    return list(_made(TABLES, chosen, summary))


def workload_tables(workloads: Workloads, names: Iterable[str] = tuple(WORKLOAD_TABLES)) -> list[Table]:
    """The joint tables of more than one study."""
    return list(_made(WORKLOAD_TABLES, names, workloads))


def _made(known: Mapping[str, str], names: Iterable[str], source: Any) -> Iterator[Table]:
    """Names that are not known here belong to another list."""
    for name in names:
        if name in known:
            module, _, function = known[name].partition(":")
            made = getattr(importlib.import_module(f"bnbench.reports.tables.{module}"), function)(source)
            yield from (table for table in ([made] if hasattr(made, "rows") else made) if table.rows)
