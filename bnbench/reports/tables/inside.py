"""The tables of the networks' inside: the indices of the runs, and the layers at the first and the last probed step."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.inside.contents import LayerNumber
from bnbench.analysis.inside.indices import IndexContrast, IndexSpread
from bnbench.analysis.inside.layers import DEAD, GRADIENT_NORM, SATURATED, STD
from bnbench.base.indices import index_facts
from bnbench.reports.numbers import NOTHING, count_text, p_text, spread_text
from bnbench.reports.sentences.inside import effect_text, value_text
from bnbench.reports.tables.table import Table

#: The quantities of the tables of layers: their headings, and whether they are shares.
_QUANTITIES = {
    STD["post"]: ("std", "Standard deviation of the activations", False),
    DEAD: ("dead", "Dead units (%)", True),
    SATURATED: ("saturated", "Saturated units (%)", True),
    GRADIENT_NORM: ("gradient", "Norm of the weights' gradient", False),
}


def probe_tables(summary: Summary) -> list[Table]:
    """The indices, then each quantity of the layers; empty without probes."""
    tables = [index_table(summary)]
    for step in first_and_last(summary):
        tables += layer_tables(summary, step)
    return [table for table in tables if table.rows]


def index_table(summary: Summary) -> Table:
    """Every index of every variant, its noise floor, and its comparison with the baseline."""
    contrasts = {(c.index, c.label): c for c in summary.inside.contrasts}
    ratio = any(spread.scale == "ratio" for spread in summary.inside.spreads)
    floors = any(spread.floor is not None for spread in summary.inside.spreads)
    rows = [
        (
            spread.index,
            spread.label,
            value_text(spread.mean, spread.low, spread.high, spread.scale),
            *([_floor_text(spread)] if floors else []),
            *_contrast_cells(spread, contrasts.get((spread.index, spread.label)), summary),
            count_text(spread.n, spread.planned),
        )
        for spread in summary.inside.spreads
    ]
    floor = "floor: the same number between two batches, without an update. " if floors else ""
    caption = (
        f"Over seeds{', geometric means of ratios' * ratio}; 95% t intervals, each for its number alone. {floor}"
        f"against {summary.baseline}: paired by seed, x a factor, else a difference. p: Holm's correction over all "
        f"comparisons of this table. {_meanings(summary)}"
    )
    columns = (
        "index", "variant", "value [95% CI]", *(["floor"] if floors else []),
        f"against {summary.baseline} [95% CI]", "p", "seeds",
    )  # fmt: skip
    return Table(
        "Inside the network: indices", caption, columns, tuple(rows), f"ll{'r' * (len(columns) - 2)}"
    )


def _contrast_cells(spread: IndexSpread, contrast: IndexContrast | None, summary: Summary) -> tuple[str, str]:
    if contrast is None:
        return ("baseline" if spread.variant == summary.baseline else NOTHING), NOTHING
    text = effect_text(contrast)
    return (f"x {text}" if contrast.scale == "ratio" and contrast.effect else text), p_text(contrast.p_holm)


def _floor_text(spread: IndexSpread) -> str:
    text = value_text(spread.floor, None, None, spread.scale)
    return f"{text} (not above)" if spread.above_floor is False else text


def _meanings(summary: Summary) -> str:
    names = dict.fromkeys(spread.index for spread in summary.inside.spreads)
    units = [f"{name}: {facts.unit}" for name in names if (facts := index_facts(name)).unit]
    return f"Units: {'; '.join(units)}." if units else ""


def first_and_last(summary: Summary) -> list[int]:
    """The first and the last step with numbers of layers."""
    steps = sorted({number.step for number in summary.inside.numbers})
    return list(dict.fromkeys([*steps[:1], *steps[-1:]]))


def layer_tables(summary: Summary, step: int) -> Iterator[Table]:
    """One table a quantity: a row a layer, a column a variant."""
    for quantity, (_, title, _) in _QUANTITIES.items():
        numbers = _at(summary, quantity, step)
        labels = _labels(summary, numbers)
        rows = [
            (
                _layer_text(depth, name),
                *(_spread_text(summary, numbers.get((depth, label))) for label in labels),
            )
            for depth, name in _layers(summary, step)
            if any((depth, label) in numbers for label in labels)
        ]
        yield Table(
            f"{title}, step {step:,}",
            "On the probe batch: mean ± standard deviation (n-1) over seeds.",
            ("layer", *labels),
            tuple(rows),
            f"l{'r' * len(labels)}",
        )


def layers_together(summary: Summary, step: int) -> Table:
    """All quantities in one table, the variants side by side."""
    columns: list[tuple[str, str]] = []
    found = {quantity: _at(summary, quantity, step) for quantity in _QUANTITIES}
    for quantity, numbers in found.items():
        labels = _labels(summary, numbers)
        if quantity not in (DEAD, SATURATED) or any(n.spread.mean for n in numbers.values()):
            columns += [(quantity, label) for label in labels]
    rows = [
        (_layer_text(depth, name), *(_mean_text(found[q].get((depth, label)), q) for q, label in columns))
        for depth, name in _layers(summary, step)
    ]
    headings = (f"{_QUANTITIES[q][0]}{' %' * _QUANTITIES[q][2]} {label}" for q, label in columns)
    caption = "On the probe batch, means over seeds. std: of the activations; gradient: norm, of the weights."
    return Table(f"Step {step:,}", caption, ("layer", *headings), tuple(rows), f"l{'r' * len(columns)}")


def _at(summary: Summary, quantity: str, step: int) -> dict[tuple[int, str], LayerNumber]:
    return {
        (number.depth, number.label): number
        for number in summary.inside.numbers
        if (number.quantity, number.step) == (quantity, step)
    }


def _labels(summary: Summary, numbers: dict[tuple[int, str], LayerNumber]) -> list[str]:
    """The labels that have this quantity, those of the baseline first."""
    found = {number.label: number.variant for number in numbers.values()}
    return sorted(found, key=lambda label: found[label] != summary.baseline)


def _layers(summary: Summary, step: int) -> list[tuple[int, str]]:
    return sorted({(n.depth, n.layer): None for n in summary.inside.numbers if n.step == step})


def _layer_text(depth: int, name: str) -> str:
    return f"{depth} {name}"


def _mean_text(number: LayerNumber | None, quantity: str) -> str:
    if number is None or number.spread.mean is None:
        return NOTHING
    value = number.spread.mean
    return f"{100 * value:.1f}" if _QUANTITIES[quantity][2] else f"{value:.3g}"


def _spread_text(summary: Summary, number: LayerNumber | None) -> str:
    """Mean and scatter over the seeds; where some have no number, how many have."""
    variant = summary.labelled(number.label) if number else None
    if number is None or variant is None:
        return NOTHING
    return spread_text(number.spread, len(variant.seeds), percent=_QUANTITIES[number.quantity][2])
