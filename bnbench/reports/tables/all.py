"""The tables of a study as plain text cells. Console and exports draw them; none computes a number."""

from __future__ import annotations

from bnbench.analysis.contents import Summary
from bnbench.analysis.pairs import PHASES
from bnbench.base.metrics import METRICS, SPLITS, metric_named
from bnbench.reports.numbers import heading, spread_text
from bnbench.reports.sentences.agreement import agreement_table
from bnbench.reports.tables.differences import difference_tables, seeds_table
from bnbench.reports.tables.outcomes import cost_table, failure_table, noise_table, rates_table, why_it_failed
from bnbench.reports.tables.speed import speed_tables
from bnbench.reports.tables.sweeps import sweep_tables
from bnbench.reports.tables.table import Table, baseline_first

__all__ = ["Table", "baseline_first", "layer_lists", "tables", "why_it_failed"]

PHASE_WORDS = {"final": "final", "best": "best val"}


def tables(summary: Summary) -> list[Table]:
    """Every table that has something to show, in reading order."""
    found = [
        *(_metric_table(summary, name) for name in summary.metrics if name in METRICS),
        _class_table(summary),
        seeds_table(summary),
        noise_table(summary),
        *difference_tables(summary),
        agreement_table(summary),
        *sweep_tables(summary),
        *speed_tables(summary),
        cost_table(summary),
        rates_table(summary),
        failure_table(summary),
    ]
    return [table for table in found if table.rows]


def layer_lists(summary: Summary) -> Table:
    """The layers of every variant as they were built; variants with the same layers share a list."""
    lists: dict[tuple[str, ...], list[str]] = {}
    for variant in baseline_first(summary):
        lists.setdefault(variant.layers, []).append(variant.label)
    unknown = ("not known: no run got as far as building it",)
    rows = [(", ".join(labels), line) for layers, labels in lists.items() for line in layers or unknown]
    return Table("Layers", "As built, in the order of the model.", ("variant", "layer"), tuple(rows), "ll")


def _metric_table(summary: Summary, name: str) -> Table:
    percent = METRICS[name].percent
    rows = [
        (
            variant.label,
            PHASE_WORDS[at],
            *(
                spread_text(variant.spreads[at, f"{split}_{name}"], len(variant.seeds), percent=percent)
                for split in SPLITS
            ),
        )
        for variant in baseline_first(summary)
        for at in PHASES
    ]
    caption = (
        f"{_seeds_caption(summary)} final: after the last step. "
        f"best val: at the evaluation with the lowest validation loss. {METRICS[name].better.capitalize()} is better."
    )
    title = f"{heading(name)}{' (%)' if percent else ''}"
    return Table(title, caption, ("variant", "at", *SPLITS), tuple(rows), "ll" + "r" * len(SPLITS))


def _class_table(summary: Summary) -> Table:
    """The recall of the classes that the study asks for."""
    names = [name for name in summary.metrics if name not in METRICS]
    rows = [
        (
            metric.class_name or "",
            variant.label,
            *(
                spread_text(
                    variant.spreads["final", f"{split}_{metric.name}"], len(variant.seeds), percent=True
                )
                for split in SPLITS
            ),
        )
        for metric in filter(None, map(metric_named, names))
        for variant in baseline_first(summary)
    ]
    meaning = "Recall: the share of a class's samples that are taken for it."
    caption = f"{_seeds_caption(summary)} After the last step. {meaning}"
    columns = ("class", "variant", *SPLITS)
    return Table("Recall by class (%)", caption, columns, tuple(rows), "ll" + "r" * len(SPLITS))


def _seeds_caption(summary: Summary) -> str:
    """What ± is, over what, and what "(4 of 5)" means where it stands in the table."""
    planned = sorted({len(variant.seeds) for variant in summary.variants})
    count = " or ".join(map(str, planned))
    if planned == [1]:
        return "One seed: no ± can be given."
    text = f"Mean ± standard deviation (n-1) over {count} seeds."
    if any(s.n != len(variant.seeds) for variant in summary.variants for s in variant.spreads.values()):
        text += (
            " (k of n): only k of n runs have a finite number; the tables below say what became of the rest."
        )
    return text
