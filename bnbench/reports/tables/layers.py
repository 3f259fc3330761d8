"""The layers of every variant, as they were built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.reports.tables.table import Table, baseline_first


def layer_lists(summary: Summary) -> Table:
    """The layers of every variant as they were built; variants with the same layers share a list."""
    lists: dict[tuple[str, ...], list[VariantSummary]] = {}
    for variant in baseline_first(summary, summary.trained):
        lists.setdefault(variant.layers, []).append(variant)
    unknown = ("not known: no run got as far as building it",)
    rows = [(_names(alike, summary), line) for layers, alike in lists.items() for line in layers or unknown]
    return Table("Layers", "As built, in the order of the model.", ("variant", "layer"), tuple(rows), "ll")


def _names(alike: Sequence[VariantSummary], summary: Summary) -> str:
    """Variants by their names; the labels of those that have these layers at some settings of a sweep alone."""
    cells = Counter(variant.variant for variant in summary.trained)
    here = Counter(variant.variant for variant in alike)
    names = (v.variant if here[v.variant] == cells[v.variant] else v.label for v in alike)
    return ", ".join(dict.fromkeys(names))
