"""How the difference from the baseline moves along a swept key: a difference of differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bnbench.analysis.difference import Difference
from bnbench.analysis.grid import lines, part
from bnbench.analysis.methods.intervals import MIN_SEEDS, Interval, holm
from bnbench.analysis.methods.sequential import repeated_interval, scatter_of, tail, weight_of
from bnbench.analysis.settings import free_keys
from bnbench.results import StudyResults
from bnbench.study.labels import cell_label

#: Equal changes with fewer seeds than this tell nothing of the scatter, where no grain bounds it.
_MIN_EQUAL = 6


@dataclass(frozen=True)
class Interaction:
    """The difference from the baseline at one value of a swept key, and its change since the key's first value.

    comparison: variant minus baseline at this value. change: paired by seed, with its 95 % t interval over n
    of n_planned seeds, not corrected; None at the first value. p: two-sided; p_holm: after Holm's correction over
    all changes along the key, of all variants; None for fewer than 3 seeds and where pairs are missing.
    """

    key: str
    value: Any
    others: Mapping[str, Any]
    comparison: Difference
    change: float | None
    change_low: float | None
    change_high: float | None
    n: int
    n_planned: int
    p: float | None = None
    p_holm: float | None = None

    @property
    def label(self) -> str:
        """For example "batch", or "batch @ batch_size=32" where more than one key is swept."""
        return cell_label(self.comparison.variant, self.others)


def interactions(results: StudyResults, comparisons: Sequence[Difference]) -> Iterator[Interaction]:
    """Along every swept key, for the final primary metric. comparisons: those at the same setting."""
    by_label = {c.label: c for c in comparisons if c.at == "final" and c.metric == results.primary}
    free = free_keys(results.cells)
    for key in free:
        others = [other for other in free if other != key]
        along = [
            [by_label[cell.label] for cell in cells if cell.label in by_label]
            for cells in lines(results.cells, key, others)
        ]
        difference = [_interaction(key, line[0], c, results.looks) for line in along for c in line]
        yield from _corrected(
            [replace(row, others=part(row.comparison.setting, others)) for row in difference]
        )


def _corrected(difference: Sequence[Interaction]) -> Iterator[Interaction]:
    adjusted = iter(holm([row.p for row in difference if row.p is not None]))
    for row in difference:
        yield row if row.p is None else replace(row, p_holm=next(adjusted))


def _interaction(key: str, first: Difference, difference: Difference, looks: Sequence[int]) -> Interaction:
    before = dict(first.values)
    changes = [value - before[seed] for seed, value in difference.values if seed in before]
    row = Interaction(
        key=key,
        value=difference.setting[key],
        others={},
        comparison=difference,
        change=None,
        change_low=None,
        change_high=None,
        n=len(changes),
        n_planned=min(first.n_planned, difference.n_planned),
    )
    if difference is first or not changes:
        return row
    mean, n = math.fsum(changes) / len(changes), len(changes)
    least = _rounding(first, difference)
    known = least > 0 or n >= _MIN_EQUAL or len(set(changes)) > 1
    weight = weight_of(n, looks)
    low, high = _interval(changes, mean, least, weight) if n > 1 and known else (None, None)
    p = min(1.0, 2 * tail(changes, abs(mean), least) / weight) if n >= MIN_SEEDS and known else None
    return replace(row, change=mean, change_low=low, change_high=high, p=p if n == row.n_planned else None)


def _interval(changes: Sequence[float], mean: float, least: float, weight: float) -> Interval:
    return repeated_interval(mean, scatter_of(changes, least), len(changes), weight)


def _rounding(first: Difference, difference: Difference) -> float:
    """The scatter that the rounding of four shares of samples makes by itself: √(4 grain²/12); 0 for a loss."""
    grain = max(first.grain or 0.0, difference.grain or 0.0)
    return grain / math.sqrt(3)
