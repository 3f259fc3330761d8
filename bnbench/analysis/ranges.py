"""The values of a swept key with which a variant trains, and how far its edges lie from the baseline's.

A sweep sees a range only on its grid: the edge lies somewhere between the last value that trains and the first
one that does not, and where the last value of the sweep trains it lies anywhere beyond. So every number here
is a pair of bounds, and an interval is computed over the seeds, on the outer side of either bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from bnbench.analysis.grid import is_numeric, lines, only_looked_at, part
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS, Interval, holm
from bnbench.analysis.methods.sequential import tail, weight_of
from bnbench.analysis.settings import baselines_of, free_keys
from bnbench.analysis.sweeps import shared_seeds
from bnbench.results import Cell, StudyResults
from bnbench.study.labels import Labelled, cell_label

ShiftVerdict = Literal["further", "less far", "undecided", "cut", "too_few_seeds"]


@dataclass(frozen=True)
class SeedRange:
    """The longest unbroken range (in decades) of the values with which one seed trains: from `first` to `last`.

    fails_below, fails_above: the next values, with which it does not; None where the sweep ends there, so
    that the range is cut. All None where no value trains.
    """

    seed: int
    first: float | None = None
    last: float | None = None
    fails_below: float | None = None
    fails_above: float | None = None

    @property
    def least(self) -> float:
        """Decades from the first to the last value that trains; 0 for one value, or none."""
        return math.log10(self.last / self.first) if self.first and self.last else 0.0

    @property
    def most(self) -> float:
        """Decades between the values that do not; infinite where the range is cut, or nothing trains."""
        if self.fails_below is None or self.fails_above is None:
            return math.inf
        return math.log10(self.fails_above / self.fails_below)


@dataclass(frozen=True)
class Shift:
    """How much further out a variant's edge lies than the baseline's, in decades, paired by seed.

    low, high: bounds of the mean, which the grid leaves open; ci_low, ci_high: with the 95 % t intervals of the
    seeds. A bound is None where the sweep cuts one of the two ranges there. p: two-sided, of the bound that is
    nearer to 0; p_holm: over all edges of the key. n: seeds with which both train somewhere.
    """

    low: float | None
    high: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    p: float | None
    verdict: ShiftVerdict
    p_holm: float | None = None


@dataclass(frozen=True)
class UsableRange:
    """The values of one swept key with which a variant trains, all else equal (`others`).

    seeds: those whose runs are all there. first, last, fails_below, fails_above: of the values with which every
    such seed trains, as in `SeedRange`. least, most: the mean over seeds of the decades that the range has at
    least and at most; low, high: with the 95 % t intervals. most, high: None where a range is cut.
    cut_below, cut_above: seeds whose range is cut there. lower, upper: the edges against the baseline's.
    """

    variant: str
    key: str
    others: Mapping[str, Any]
    seeds: tuple[SeedRange, ...]
    n_planned: int
    first: float | None
    last: float | None
    fails_below: float | None
    fails_above: float | None
    least: float | None
    most: float | None
    low: float | None
    high: float | None
    cut_below: int
    cut_above: int
    lower: Shift | None = None
    upper: Shift | None = None

    @property
    def n(self) -> int:
        """Seeds whose runs are all there."""
        return len(self.seeds)

    @property
    def label(self) -> str:
        """For example "batch", or "batch @ batch_size=32" where more than one key is swept."""
        return cell_label(self.variant, self.others)


@dataclass(frozen=True)
class _At(Labelled):
    """A range at a setting of the other keys."""

    usable_range: UsableRange


def usable_ranges(results: StudyResults) -> tuple[UsableRange, ...]:
    """For every swept key whose values are positive numbers."""
    corrected_ranges: list[UsableRange] = []
    free = free_keys(results.cells)
    for key in free:
        others = [other for other in free if other != key]
        numeric = [
            line
            for line in lines(results.cells, key, others)
            if is_numeric(line, key) and not only_looked_at(line)
        ]
        ranges = [_usable_range(line, key, others) for line in numeric]
        steps = [_largest_step(line, key) for line in numeric]
        against = baseline_ranges(ranges, results.baseline)
        shifted = [
            _against(usable_range, base, step, results.looks)
            if base and base is not usable_range
            else usable_range
            for usable_range, base, step in zip(ranges, against, steps, strict=True)
        ]
        corrected_ranges += _corrected(shifted)
    return tuple(corrected_ranges)


def baseline_ranges(ranges: Sequence[UsableRange], baseline: str) -> list[UsableRange | None]:
    """For each range of one key the baseline's, where the other keys have the same values."""
    places = baselines_of([_At(r.variant, r.others, r) for r in ranges], baseline)
    return [place.usable_range if place else None for place in places]


def longest_block(values: Sequence[float], flags: Sequence[bool]) -> tuple[int, int] | None:
    """First and last index of the unbroken run of true ones that spans most decades; None where there is none.

    values: ascending and positive. Of equally long ones the first.
    """
    blocks, start = [], None
    for index, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = index
        elif not flag and start is not None:
            blocks.append((start, index - 1))
            start = None
    return max(blocks, key=lambda block: math.log10(values[block[1]] / values[block[0]]), default=None)


def _usable_range(cells: Sequence[Cell], key: str, others: Sequence[str]) -> UsableRange:
    cells = sorted(cells, key=lambda cell: float(cell.setting[key]))
    values = [float(cell.setting[key]) for cell in cells]
    trained = [{run.seed: run.trained for run in cell.records if run.trained is not None} for cell in cells]
    whole = [seed for seed in cells[0].seeds if all(seed in outcome for outcome in trained)]
    seeds = [_seed_range(seed, values, [outcome[seed] for outcome in trained]) for seed in whole]
    common = _seed_range(-1, values, [bool(whole) and all(o[seed] for seed in whole) for o in trained])
    least, most = [seed_range.least for seed_range in seeds], [seed_range.most for seed_range in seeds]
    step = _largest_step(cells, key)
    return UsableRange(
        variant=cells[0].variant,
        key=key,
        others=part(cells[0].setting, others),
        seeds=tuple(seeds),
        n_planned=len(shared_seeds(cells)),
        first=common.first,
        last=common.last,
        fails_below=common.fails_below,
        fails_above=common.fails_above,
        least=_mean(least),
        most=_mean(most),
        low=_interval(least, step)[0],
        high=_interval(most, step)[1],
        cut_below=sum(
            seed_range.first is not None and seed_range.fails_below is None for seed_range in seeds
        ),
        cut_above=sum(seed_range.last is not None and seed_range.fails_above is None for seed_range in seeds),
    )


def _seed_range(seed: int, values: Sequence[float], trains: Sequence[bool]) -> SeedRange:
    block = longest_block(values, trains)
    if block is None:
        return SeedRange(seed)
    first, last = block
    return SeedRange(
        seed,
        values[first],
        values[last],
        values[first - 1] if first else None,
        values[last + 1] if last + 1 < len(values) else None,
    )


def _against(usable_range: UsableRange, base: UsableRange, step: float, looks: Sequence[int]) -> UsableRange:
    base_ranges = {seed_range.seed: seed_range for seed_range in base.seeds}
    pairs = [
        (seed_range, base_ranges[seed_range.seed])
        for seed_range in usable_range.seeds
        if seed_range.seed in base_ranges
    ]
    both = [(a, b) for a, b in pairs if a.first is not None and b.first is not None]
    lower = [_bounds(b.first, b.fails_below, a.first, a.fails_below, sign=-1) for a, b in both]
    upper = [_bounds(b.last, b.fails_above, a.last, a.fails_above, sign=1) for a, b in both]
    whole = len(both) == min(usable_range.n_planned, base.n_planned)
    return replace(
        usable_range, lower=_shift(lower, step, whole, looks), upper=_shift(upper, step, whole, looks)
    )


def _bounds(
    base_in: float | None, base_out: float | None, in_: float | None, out: float | None, *, sign: int
) -> tuple[float, float]:
    """The least and the most that an edge lies further out: in_ trains, out is the next value and does not."""
    least = -math.inf if base_out is None or in_ is None else sign * math.log10(in_ / base_out)
    most = math.inf if out is None or base_in is None else sign * math.log10(out / base_in)
    return least, most


def _shift(bounds: Sequence[tuple[float, float]], step: float, whole: bool, looks: Sequence[int]) -> Shift:
    """whole: whether every planned seed is among them; else there is no verdict."""
    lows, highs = [low for low, _ in bounds], [high for _, high in bounds]
    n, weight = len(bounds), weight_of(len(bounds), looks)
    low, high = _mean(lows), _mean(highs)
    ci_low, ci_high = _interval(lows, step, weight)[0], _interval(highs, step, weight)[1]
    verdict: ShiftVerdict = "undecided"
    p = None
    if n < MIN_SEEDS or not whole:
        verdict = "too_few_seeds"
    elif low is None and high is None:
        verdict = "cut"
    else:
        above = 1.0 if low is None else tail(lows, low, _scatter(step))
        below = 1.0 if high is None else tail([-value for value in highs], -high, _scatter(step))
        p = min(1.0, 2 * min(above, below) / weight)
        if p <= ALPHA:
            verdict = "further" if above < below else "less far"
    return Shift(low, high, ci_low, ci_high, n, p, verdict)


def _corrected(ranges: Sequence[UsableRange]) -> Iterator[UsableRange]:
    """After Holm's correction over every edge of the key that has a p."""
    shifts = [
        shift
        for usable_range in ranges
        for shift in (usable_range.lower, usable_range.upper)
        if shift and shift.p is not None
    ]
    adjusted = iter(holm([shift.p or 0.0 for shift in shifts]))

    def decided(shift: Shift | None) -> Shift | None:
        if shift is None or shift.p is None:
            return shift
        p = next(adjusted)
        return replace(shift, p_holm=p, verdict=shift.verdict if p <= ALPHA else "undecided")

    for usable_range in ranges:
        lower, upper = decided(usable_range.lower), decided(usable_range.upper)
        yield replace(usable_range, lower=lower, upper=upper)


def _largest_step(cells: Sequence[Cell], key: str) -> float:
    """In decades, between neighbouring values of the sweep."""
    values = sorted(float(cell.setting[key]) for cell in cells)
    return max(math.log10(after / before) for before, after in pairwise(values))


def _scatter(step: float) -> float:
    """The least scatter of a difference of two numbers that are known to a step: √(2 step²/12)."""
    return step / math.sqrt(6)


def _mean(values: Iterable[float]) -> float | None:
    """None for no value, and where one is infinite: the sweep cuts it."""
    values = list(values)
    mean = sum(values) / len(values) if values else math.inf
    return mean if math.isfinite(mean) else None


def _interval(values: Sequence[float], step: float, weight: float = 1.0) -> Interval:
    from bnbench.analysis.methods.sequential import repeated_interval, scatter_of

    mean = _mean(values)
    if mean is None or len(values) < 2:
        return None, None
    return repeated_interval(mean, scatter_of(values, _scatter(step)), len(values), weight)
