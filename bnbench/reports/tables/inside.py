"""The tables of the networks' inside: the indices of the runs, and the layers at the first and the last probed step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.cells import cell_len

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
    SATURATED: ("saturated", "Saturated activations (%)", True),
    GRADIENT_NORM: ("gradient", "Norm of the weights' gradient", False),
}
#: What a quantity beside others is of.
_MEANINGS = {
    STD["post"]: "std: of the activations",
    DEAD: "dead: units, in %",
    SATURATED: "saturated: activations, in %",
    GRADIENT_NORM: "gradient: norm, of the weights",
}
#: Columns of a screen that the names of the layers and a number take, about.
_LAYER_WIDTH, _NUMBER_WIDTH = 12, 8
#: Behind a mean that is not of all seeds.
_SOME = "*"
Numbers = Mapping[tuple[int, str], LayerNumber]
_NONE_OF = {DEAD: "No unit is dead.", SATURATED: "No activation is saturated."}


def probe_tables(summary: Summary) -> list[Table]:
    """The indices, then each quantity of the layers; empty without probes."""
    layers = [table for step in first_and_last(summary) for table in layer_tables(summary, step)]
    return [table for table in (index_table(summary), *layers) if table.rows]


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


def layer_tables(summary: Summary, step: int, width: int | None = None) -> list[Table]:
    """One table a quantity: a row a layer, a column a variant; in a sweep one a variant, a column a setting.

    width: of a screen, for tables of means alone, which in a sweep hold all variants where they fit it. What is 0
    everywhere has a sentence in the caption in place of its table.
    """
    found = {quantity: _at(summary, quantity, step) for quantity in _QUANTITIES}
    zeros = [quantity for quantity in _NONE_OF if _is_zero(found[quantity].values())]
    scatter = "mean ± standard deviation (n-1) over seeds" if width is None else "means over seeds"
    caption = " ".join([f"On the probe batch: {scatter}.", *(_NONE_OF[quantity] for quantity in zeros)])
    tables = [
        Table(
            f"{title}, step {step:,}{name}",
            caption,
            ("layer", *columns),
            tuple(_rows(summary, step, numbers, list(columns.values()), brief=width is not None)),
            f"l{'r' * len(columns)}",
        )
        for quantity, numbers in found.items()
        if numbers and quantity not in zeros
        for title in [_QUANTITIES[quantity][1]]
        for name, columns in _groups(summary, numbers, width)
    ]
    some = _of_some([row for table in tables for row in table.rows])
    return [replace(table, caption=f"{table.caption}{some}") for table in tables]


def _rows(
    summary: Summary, step: int, numbers: Numbers, labels: Sequence[str], *, brief: bool
) -> Iterator[tuple[str, ...]]:
    for depth, layer in _layers(summary, step):
        if any((depth, label) in numbers for label in labels):
            cells = (_text(summary, numbers.get((depth, label)), brief=brief) for label in labels)
            yield (_layer_text(depth, layer), *cells)


def layers_together(summary: Summary, step: int) -> Table:
    """All quantities in one table, the variants side by side: their means."""
    found = {quantity: _at(summary, quantity, step) for quantity in _QUANTITIES}
    zeros = [q for q in (DEAD, SATURATED) if _is_zero(found[q].values())]
    columns = [(q, label) for q in _QUANTITIES if q not in zeros for label in _labels(summary, found[q])]
    rows = [
        (
            _layer_text(depth, name),
            *(_mean_text(summary, found[q].get((depth, label))) for q, label in columns),
        )
        for depth, name in _layers(summary, step)
        if columns
    ]
    headings = (f"{_QUANTITIES[q][0]} {label}" for q, label in columns)
    shown = "; ".join(text for quantity, text in _MEANINGS.items() if quantity in dict(columns))
    caption = f"On the probe batch: means over seeds. {shown}."
    caption += "".join(f" {_NONE_OF[quantity]}" for quantity in zeros) + _of_some(rows)
    return Table(f"Step {step:,}", caption, ("layer", *headings), tuple(rows), f"l{'r' * len(columns)}")


def _is_zero(numbers: Iterable[LayerNumber]) -> bool:
    """Whether there are numbers, and no seed has another than 0."""
    values = [value for number in numbers for value in number.spread.values]
    return bool(values) and not any(values)


def _groups(summary: Summary, numbers: Numbers, width: int | None) -> list[tuple[str, dict[str, str]]]:
    """Tables by the end of their title, with the headings and the labels of their columns."""
    labels = _labels(summary, numbers)
    keys = summary.swept_keys
    if not keys:
        return [("", {label: label for label in labels})]
    variants = {variant.label: variant for variant in summary.variants}
    by = f", by {' and '.join(keys)}"
    values = {label: ", ".join(str(variants[label].setting.get(key, "")) for key in keys) for label in labels}
    whole = {f"{variants[label].variant} {values[label]}": label for label in labels}
    words = [max(map(cell_len, heading.split())) for heading in whole]
    if width is not None and _LAYER_WIDTH + sum(2 + max(word, _NUMBER_WIDTH) for word in words) <= width:
        return [(by, whole)]
    groups: dict[str, dict[str, str]] = {}
    for label in labels:
        groups.setdefault(f": {variants[label].variant}{by}", {})[values[label]] = label
    return list(groups.items())


def _at(summary: Summary, quantity: str, step: int) -> Numbers:
    return {
        (number.depth, number.label): number
        for number in summary.inside.numbers
        if (number.quantity, number.step) == (quantity, step)
    }


def _labels(summary: Summary, numbers: Numbers) -> list[str]:
    """The labels that have this quantity, those of the baseline first."""
    found = {number.label: number.variant for number in numbers.values()}
    return sorted(found, key=lambda label: found[label] != summary.baseline)


def _layers(summary: Summary, step: int) -> list[tuple[int, str]]:
    return sorted({(n.depth, n.layer): None for n in summary.inside.numbers if n.step == step})


def _layer_text(depth: int, name: str) -> str:
    return f"{depth} {name}"


def _mean_text(summary: Summary, number: LayerNumber | None) -> str:
    """The mean over the seeds with a finite number, with a sign where these are not all."""
    variant = summary.labelled(number.label) if number else None
    if number is None or variant is None or number.spread.mean is None:
        return NOTHING
    value = number.spread.mean
    text = f"{100 * value:.1f}" if _QUANTITIES[number.quantity][2] else f"{value:#.3g}".rstrip(".")
    return text if number.spread.n == len(variant.seeds) else f"{text}{_SOME}"


def _text(summary: Summary, number: LayerNumber | None, *, brief: bool) -> str:
    """Mean and scatter over the seeds; where some have no number, how many have."""
    variant = summary.labelled(number.label) if number else None
    if number is None or variant is None or brief:
        return _mean_text(summary, number)
    return spread_text(number.spread, len(variant.seeds), percent=_QUANTITIES[number.quantity][2])


def _of_some(rows: Iterable[Sequence[str]]) -> str:
    """What the sign means, where it stands in a row."""
    return (
        f" {_SOME}: not every seed has a number." if any(c.endswith(_SOME) for r in rows for c in r) else ""
    )
