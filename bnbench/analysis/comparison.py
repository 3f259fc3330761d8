"""How far two variants differ, seed by seed, with the uncertainty and the verdict.

The replicate is the seed: never an epoch, a batch or a sample. Intervals are those of Student's
t, which keep their 95 % at any number of seeds from 3 on where the differences are roughly
normal; a percentile bootstrap of 3 seeds would keep 75 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bnbench.metrics import metric_of
from bnbench.plan import RunRecord, cell_label
from bnbench.results import Cell

Phase = Literal["final", "best"]
PHASES: tuple[Phase, ...] = ("final", "best")
Verdict = Literal["better", "worse", "no detectable difference", "not enough seeds"]
Interval = tuple[float | None, float | None]

#: Fewer paired seeds than this give numbers, but no verdict.
MIN_SEEDS = 3
CONFIDENCE = 0.95
POWER = 0.80
#: A difference smaller than this share of the numbers is rounding (they are float32), not an effect.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Spread:
    """A number over seeds. std: with n-1, None where n < 2; mean: None where n is 0.

    values: the finite ones, in the order of the seeds. num_nonfinite: runs whose number is NaN or
    infinite: not in the mean, but counted.
    """

    mean: float | None
    std: float | None
    n: int
    values: tuple[float, ...] = ()
    num_nonfinite: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of some numbers, finite or not."""
        values = list(values)
        finite = tuple(value for value in values if math.isfinite(value))
        return cls(
            mean=statistics.fmean(finite) if finite else None,
            std=_std(finite) if len(finite) > 1 else None,
            n=len(finite),
            values=finite,
            num_nonfinite=len(values) - len(finite),
        )


@dataclass(frozen=True)
class Comparison:
    """A variant minus its baseline, in one metric, paired by seed.

    at: "final" (after the last step) or "best" (at the lowest validation loss). difference: mean
    over the n of n_planned seeds where both have a finite number. ci_low, ci_high: 95 % paired t
    interval, None where n < 2. welch_low, welch_high: the same for unpaired runs. rho: correlation
    over the seeds, None where undefined; pairing pays where it is well above 0. detectable: the
    smallest true difference that n seeds with this scatter detect with 80 % power at 5 %,
    two-sided; None where n < 3. values: the difference of each seed.
    """

    variant: str
    setting: Mapping[str, Any]
    baseline: str
    baseline_setting: Mapping[str, Any]
    metric: str
    at: Phase
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_planned: int
    values: tuple[tuple[int, float], ...]
    welch_low: float | None
    welch_high: float | None
    rho: float | None
    detectable: float | None
    verdict: Verdict

    @property
    def label(self) -> str:
        """ "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.variant, self.setting)

    @property
    def baseline_label(self) -> str:
        """ "none", or "none @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.baseline, self.baseline_setting)


def number(record: RunRecord, metric: str, at: Phase) -> float:
    """One metric of one run, NaN where there is none (a crashed run has no numbers)."""
    return (record.final if at == "final" else record.best).get(metric, math.nan)


def compare(variant: Cell, baseline: Cell, metric: str, at: Phase) -> Comparison:
    """The paired difference of two variants, by the rules that `Comparison` states."""
    ours, theirs = _finite(variant, metric, at), _finite(baseline, metric, at)
    planned = [seed for seed in variant.seeds if seed in baseline.seeds]
    paired = [seed for seed in planned if seed in ours and seed in theirs]
    first, second = [ours[seed] for seed in paired], [theirs[seed] for seed in paired]
    differences = [a - b for a, b in zip(first, second, strict=True)]
    low, high = paired_interval(differences)
    welch_low, welch_high = welch_interval(first, second)
    return Comparison(
        variant=variant.variant,
        setting=variant.setting,
        baseline=baseline.variant,
        baseline_setting=baseline.setting,
        metric=metric,
        at=at,
        difference=statistics.fmean(differences) if differences else None,
        ci_low=low,
        ci_high=high,
        n=len(paired),
        n_planned=len(planned),
        values=tuple(zip(paired, differences, strict=True)),
        welch_low=welch_low,
        welch_high=welch_high,
        rho=correlation(first, second),
        detectable=detectable_difference(differences),
        verdict=judge(metric, (low, high), len(paired), scale=max(map(abs, [*first, *second]), default=0.0)),
    )


def _finite(cell: Cell, metric: str, at: Phase) -> dict[int, float]:
    """The finite numbers of a cell, by seed."""
    numbers = {record.seed: number(record, metric, at) for record in cell.records}
    return {seed: value for seed, value in numbers.items() if math.isfinite(value)}


def judge(metric: str, interval: Interval, n: int, scale: float = 0.0) -> Verdict:
    """The verdict: better or worse where the interval excludes 0 by more than rounding can do.

    scale: the largest number compared; differences below ROUNDING of it count as 0.
    """
    low, high = interval
    if low is None or high is None or n < MIN_SEEDS:
        return "not enough seeds"
    nothing = ROUNDING * scale
    if low <= nothing and high >= -nothing:
        return "no detectable difference"
    rises = low > nothing
    return "better" if rises == (metric_of(metric).better == "higher") else "worse"


def paired_interval(differences: Sequence[float]) -> Interval:
    """95 % interval of the mean of paired differences: mean ± t(n-1) · std / √n. Equal differences: a point."""
    n = len(differences)
    if n < 2:
        return None, None
    mean = statistics.fmean(differences)
    half = _t_quantile(n - 1) * _std(differences) / math.sqrt(n)
    return mean - half, mean + half


def welch_interval(first: Sequence[float], second: Sequence[float]) -> Interval:
    """95 % interval of the difference of two means, unpaired, variances unequal (Welch 1947)."""
    if min(len(first), len(second)) < 2:
        return None, None
    mean = statistics.fmean(first) - statistics.fmean(second)
    parts = [(_std(values) ** 2 / len(values), len(values) - 1) for values in (first, second)]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return mean, mean
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = _t_quantile(freedom) * math.sqrt(variance)
    return mean - half, mean + half


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation, None for fewer than 3 pairs or where a side does not vary."""
    if len(first) < MIN_SEEDS or not _std(first) or not _std(second):
        return None
    return statistics.correlation(first, second)


def detectable_difference(differences: Sequence[float]) -> float | None:
    """The smallest true mean that a paired t test of so many such differences finds with 80 % power.

    From the noncentral t distribution, 5 % two-sided; the chance to reject on the wrong side
    (below 1e-4 at that power) is left out. In the unit of the differences; None for n < 3.
    """
    n = len(differences)
    if n < MIN_SEEDS:
        return None
    from scipy import special

    noncentrality = float(special.nctdtrinc(n - 1, 1 - POWER, _t_quantile(n - 1)))
    return noncentrality * _std(differences) / math.sqrt(n)


def _std(values: Sequence[float]) -> float:
    """With n-1, and exactly 0 where all values are equal."""
    return statistics.stdev(values)


def _t_quantile(freedom: float) -> float:
    from scipy import special

    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
