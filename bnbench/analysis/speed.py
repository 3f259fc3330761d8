"""How much faster a variant reaches a target than its baseline, with the runs that never did."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bnbench.analysis.convergence import CLOCKS, Clock, Reached, area, budget_of, evaluated_every, reached
from bnbench.analysis.methods.intervals import MIN_SEEDS, Interval, paired_interval, scatter
from bnbench.analysis.times import why_not_comparable
from bnbench.results import Cell
from bnbench.study import Target
from bnbench.study.labels import Labelled
from bnbench.study.records import RunRecord


@dataclass(frozen=True)
class SpeedComparison(Labelled):
    """A variant against its baseline in the time to one target, on one clock, paired by seed.

    difference: restricted mean difference, variant minus baseline: the time within the common
    `budget`, a run that did not reach the target counting with all of it. ci_low, ci_high: its 95 %
    paired t interval over n of n_planned seeds, which knows that a time is no finer than the gap between
    evaluations. ratio: speed-up, the baseline's time over the variant's, geometric mean over the n_both
    seeds where both reached it, with the paired t interval of its logarithm. No interval for fewer than
    three seeds. None where there is nothing to say: no run of the two reached it.
    refused: why this clock can't be compared; then there are no numbers.
    """

    baseline: str
    target: Target
    clock: Clock
    n: int
    n_planned: int
    n_both: int = 0
    budget: float | None = None
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    refused: str = ""


@dataclass(frozen=True)
class AreaComparison(Labelled):
    """Variant minus baseline in the area under the target's metric over the common steps (see `area`)."""

    baseline: str
    metric: str
    budget: float
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_planned: int


Pair = tuple[RunRecord, RunRecord]


def compare_speed(variant: Cell, baseline: Cell, target: Target) -> Iterator[SpeedComparison]:
    """One comparison for each clock."""
    pairs = list(_pairs(variant, baseline))
    for clock in CLOCKS:
        yield _on_clock(clock, variant, baseline, target, pairs)


def compare_areas(variant: Cell, baseline: Cell, metric: str) -> AreaComparison:
    """The areas up to the common budget, over the seeds where both have one."""
    pairs = list(_pairs(variant, baseline))
    budget = min((run.planned_steps for pair in pairs for run in pair if run.planned_steps), default=0)
    both = [area(first, metric, budget) - area(second, metric, budget) for first, second in pairs]
    differences = [value for value in both if math.isfinite(value)]
    low, high = _interval(differences, 0.0)
    return AreaComparison(
        variant=variant.variant,
        setting=variant.setting,
        baseline=baseline.variant,
        metric=metric,
        budget=budget,
        difference=statistics.fmean(differences) if differences else None,
        ci_low=low,
        ci_high=high,
        n=len(differences),
        n_planned=_planned(variant, baseline),
    )


def restricted_difference(
    times: Sequence[float], baseline_times: Sequence[float], budget: float
) -> list[float]:
    """Seed by seed, min(time, budget) of the variant minus the same of the baseline; infinite: never reached."""
    return [min(a, budget) - min(b, budget) for a, b in zip(times, baseline_times, strict=True)]


def speed_up(
    times: Sequence[float], baseline_times: Sequence[float], grain: float = 0.0
) -> tuple[float | None, float | None, float | None]:
    """Geometric mean of baseline_times / times, with the 95 % paired t interval of its logarithm. Times above 0.

    grain: how finely the times are known, which is a share of them on the scale of the logarithm.
    """
    logs = [math.log(b) - math.log(a) for a, b in zip(times, baseline_times, strict=True)]
    share = grain / statistics.fmean([*times, *baseline_times]) if logs else 0.0
    return mean_ratio(logs, *_interval(logs, share))


def _interval(differences: Sequence[float], grain: float) -> Interval:
    """None of fewer than three seeds, or where no scatter is seen: it would be as wide as can be, or without width."""
    known = len(differences) >= MIN_SEEDS and scatter(differences, grain) > 0
    return paired_interval(differences, grain=grain) if known else (None, None)


def grain_of(runs: Iterable[RunRecord], clock: Clock) -> float:
    """How finely the times of these runs are known on a clock: the time between two evaluations."""
    return max((_gap(run, clock) for run in runs), default=0.0)


def _gap(run: RunRecord, clock: Clock) -> float:
    steps, whole = evaluated_every([run]), budget_of(run, clock)
    return whole * steps / run.planned_steps if steps and whole and run.planned_steps else 0.0


def mean_ratio(
    logs: Sequence[float], low: float | None, high: float | None
) -> tuple[float | None, float | None, float | None]:
    """The geometric mean that belongs to some logarithms, and the interval of their mean as one of the ratio."""
    values = (statistics.fmean(logs) if logs else None, low, high)
    mean, low, high = (None if value is None else math.exp(min(value, 700.0)) for value in values)
    return mean, low, high


def _on_clock(
    clock: Clock,
    variant: Cell,
    baseline: Cell,
    target: Target,
    pairs: Sequence[Pair],
) -> SpeedComparison:
    times = [(reached(first, target), reached(second, target)) for first, second in pairs]
    refused = why_not_comparable(variant.records, baseline.records) if clock == "seconds" else ""
    known = [budget_of(run, clock) for pair in pairs for run in pair]
    budget = min((length for length in known if length), default=None)
    comparison = SpeedComparison(
        variant=variant.variant,
        setting=variant.setting,
        baseline=baseline.variant,
        target=target,
        clock=clock,
        n=len(pairs),
        n_planned=_planned(variant, baseline),
        budget=budget,
        refused=refused,
    )
    if refused or budget is None or not any(time for pair in times for time in pair):
        return comparison
    variant_times = [_time(first, clock) for first, _ in times]
    baseline_times = [_time(second, clock) for _, second in times]
    differences = restricted_difference(variant_times, baseline_times, budget)
    grain = grain_of((run for pair in pairs for run in pair), clock)
    low, high = _interval(differences, grain)
    both = [
        (a, b)
        for a, b in zip(variant_times, baseline_times, strict=True)
        if 0 < a < math.inf and 0 < b < math.inf
    ]
    ratio, ratio_low, ratio_high = speed_up([a for a, _ in both], [b for _, b in both], grain)
    return replace(
        comparison,
        n_both=len(both),
        difference=statistics.fmean(differences),
        ci_low=low,
        ci_high=high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
    )


def _time(time: Reached | None, clock: Clock) -> float:
    moment = time.at(clock) if time else None
    return math.inf if moment is None else moment


def _pairs(variant: Cell, baseline: Cell) -> Iterator[Pair]:
    """The runs of the seeds that both have; a missing run has no pair."""
    baseline_runs = {run.seed: run for run in baseline.records}
    return ((run, baseline_runs[run.seed]) for run in variant.records if run.seed in baseline_runs)


def _planned(variant: Cell, baseline: Cell) -> int:
    return len(set(variant.seeds) & set(baseline.seeds))
