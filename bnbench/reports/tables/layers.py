"""The layers of every variant, as they were built."""

from __future__ import annotations

from bnbench.analysis.contents import Summary
from bnbench.reports.tables.table import Table, baseline_first


def layer_lists(summary: Summary) -> Table:
    """The layers of every variant as they were built; variants with the same layers share a list."""
    lists: dict[tuple[str, ...], list[str]] = {}
    for variant in baseline_first(summary):
        lists.setdefault(variant.layers, []).append(variant.label)
    unknown = ("not known: no run got as far as building it",)
    rows = [(", ".join(labels), line) for layers, labels in lists.items() for line in layers or unknown]
    return Table("Layers", "As built, in the order of the model.", ("variant", "layer"), tuple(rows), "ll")
