"""Variants that gave the same results on every seed: they are one finding, not two, and count as one comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import MIN_SEEDS
from bnbench.analysis.pairs import ROUNDING
from bnbench.base.metrics import METRICS, parted
from bnbench.results import Cell
from bnbench.study.records import RunRecord

if TYPE_CHECKING:
    from bnbench.analysis.contents import VariantSummary


def first_of_equals(cells: Sequence[Cell]) -> dict[str, str]:
    """The label of every cell -> the label of the first cell with the same results, which may be the cell itself."""
    first: dict[str, str] = {}
    alike: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        candidates = alike.setdefault(_exact(cell), [])
        twin = next((other for other in candidates if same_results(cell, other)), cell)
        first[cell.label] = twin.label
        if twin is cell:
            candidates.append(cell)
    return first


def same_results(first: Cell, second: Cell) -> bool:
    """Whether two cells are equal in every metric on every seed, at every evaluation; losses to rounding.

    Runs without a finite loss say nothing: all that diverge look alike.
    """
    if not first.records or _exact(first) != _exact(second):
        return False
    return all(_same_run(one, other) for one, other in zip(first.records, second.records, strict=True))


def mark_twins(comparisons: Iterable[Difference], first: Mapping[str, str]) -> Iterator[Difference]:
    """Every comparison, with its twin where an earlier one has the same results on both sides.

    A variant with the baseline's results is the baseline's twin.
    """
    seen: dict[tuple[str, ...], str] = {}
    for difference in comparisons:
        same_as, baseline_same_as = first[difference.label], first[difference.baseline_label]
        if same_as == baseline_same_as:
            yield replace(difference, twin=difference.baseline_label)
            continue
        earlier = seen.setdefault(
            (difference.metric, difference.at, same_as, baseline_same_as), difference.label
        )
        yield difference if earlier == difference.label else replace(difference, twin=earlier)


def groups_of_equals(cells: Sequence[Cell], first: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """The variants that gave the same results, group by group, each of two or more.

    In a sweep by their names where they are equal at every setting, else by the labels of their cells.
    """
    at: dict[str, dict[str, str]] = {}
    for cell in cells:
        at.setdefault(str(dict(cell.setting)), {})[cell.variant] = first[cell.label]
    everywhere = {
        (one, other)
        for one, other in _variant_pairs(cells)
        if all(labels[one] == labels[other] for labels in at.values() if one in labels and other in labels)
        and any(one in labels and other in labels for labels in at.values())
    }
    names = _joined(everywhere)
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(first[cell.label], []).append(cell)
    rest = [
        tuple(cell.label for cell in group)
        for group in alike.values()
        if len(group) > 1 and not any({cell.variant for cell in group} <= set(known) for known in names)
    ]
    return (*names, *rest)


def _variant_pairs(cells: Sequence[Cell]) -> Iterator[tuple[str, str]]:
    names = list(dict.fromkeys(cell.variant for cell in cells))
    return ((one, other) for place, one in enumerate(names) for other in names[place + 1 :])


def _joined(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Pairs of equals as groups; being equal at every setting carries over from one to the next."""
    groups: list[list[str]] = []
    for one, other in sorted(pairs):
        group = next((known for known in groups if one in known or other in known), None)
        if group is None:
            groups.append([one, other])
        else:
            group += [name for name in (one, other) if name not in group]
    return [tuple(group) for group in groups]


def _exact(cell: Cell) -> tuple[object, ...]:
    """What has to be equal to the last bit: seeds, outcomes, steps and every share."""
    return tuple(
        (run.seed, run.outcome, run.steps, tuple(sorted(_shares(run).items()))) for run in cell.records
    )


def _shares(run: RunRecord) -> dict[str, str]:
    """The shares at the end, as text: NaN is equal to NaN here."""
    return {name: f"{value:.12g}" for name, value in run.final.items() if not _is_loss(name)}


def _same_run(one: RunRecord, another: RunRecord) -> bool:
    if one.outcome in ("crashed", "not_finite") or not math.isfinite(one.final.get("val_loss", 0.0)):
        return False
    if not any(map(math.isfinite, one.final.values())):
        return False
    if [row.step for row in one.history] != [row.step for row in another.history]:
        return False
    numbers = [
        (one.final, another.final),
        (one.best, another.best),
        *(
            (row.metrics, other_row.metrics)
            for row, other_row in zip(one.history, another.history, strict=True)
        ),
    ]
    return all(_same_metrics(metrics, other_metrics) for metrics, other_metrics in numbers)


def _same_metrics(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return set(one) == set(other) and all(_same(name, one[name], other[name]) for name in one)


def _same(name: str, one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    tolerance = ROUNDING if _is_loss(name) else 1e-12
    return abs(one - other) <= tolerance * max(abs(one), abs(other))


def _is_loss(column: str) -> bool:
    metric = METRICS.get(parted(column)[1])
    return metric is not None and not metric.percent


def repeats(difference: Difference, variants: Iterable[VariantSummary]) -> bool:
    """Whether a loss is the same on every seed: it has no interval then, and is neither worse nor another."""
    sides = [v for v in variants if v.label in (difference.label, difference.baseline_label)]
    numbers = [abs(number) for v in sides for number in v.spreads[difference.at, difference.metric].values]
    least = ROUNDING * max(numbers, default=0.0)
    return (
        difference.ci_low is None
        and difference.n >= MIN_SEEDS
        and all(abs(by) <= least for _, by in difference.values)
    )
