"""How far two variants differ, seed by seed, with the uncertainty and the verdict.

The replicate is the seed: never an epoch, a batch or a sample. From 3 pairs on Student's t gives
the interval, which keeps its 95 % where the differences are roughly normal; a percentile bootstrap
of 3 seeds would keep 75 %. From 6 on the sign-flip test stands beside it as a check. From 20 on a
studentised bootstrap takes the place of t.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from bnbench.analysis.intervals import (
    ALPHA,
    MIN_SEEDS,
    Interval,
    correlation,
    detectable_difference,
    equivalence_p,
    holm,
    paired_interval,
    paired_p,
    seeds_needed,
    std,
    welch_interval,
)
from bnbench.analysis.resampling import MIN_BOOTSTRAP, bootstrap_t, sign_flip_p
from bnbench.config import Margin
from bnbench.metrics import metric_of
from bnbench.plan import RunRecord, cell_label
from bnbench.results import Cell

Phase = Literal["final", "best"]
PHASES: tuple[Phase, ...] = ("final", "best")
Verdict = Literal["better", "worse", "same", "undecided", "pairs_lost", "too_few_seeds"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Method = Literal["t", "bootstrap"]

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
            std=std(finite) if len(finite) > 1 else None,
            n=len(finite),
            values=finite,
            num_nonfinite=len(values) - len(finite),
        )


@dataclass(frozen=True)
class Comparison:
    """A variant minus its baseline, in one metric, paired by seed.

    at: "final" (after the last step) or "best" (at the lowest validation loss). difference: mean
    over the n of n_planned seeds where both have a finite number. values: that of each seed.
    ci_low, ci_high: its 95 % interval by `method` ("t"; "bootstrap" from 20 pairs on), not corrected
    for the number of comparisons; None where n < 2. p: two-sided, of the same method. p_holm: p
    after Holm's correction over the `family` comparisons that were made in this metric.
    sign_flip_p: from 6 pairs on. welch_low, welch_high: 95 % interval as if the runs were not
    paired. rho: correlation over the seeds, None where undefined; pairing pays where it is well
    above 0. detectable: the smallest true difference that n seeds with this scatter detect with
    80 % power; needed: how many seeds would detect the difference that was seen; both two-sided at
    5 % / family, None where n < 3. margin: what the study declares as no difference in this metric;
    inner_low, inner_high: the 90 % t interval that is held against it; margin_p: p of the two
    one-sided tests, after Holm. uncorrected: the verdict before Holm's correction and the margin.
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
    uncorrected: Verdict
    method: Method = "t"
    p: float | None = None
    p_holm: float | None = None
    family: int = 1
    sign_flip_p: float | None = None
    needed: int | None = None
    margin: float | None = None
    inner_low: float | None = None
    inner_high: float | None = None
    margin_p: float | None = None

    @property
    def label(self) -> str:
        """ "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.variant, self.setting)

    @property
    def baseline_label(self) -> str:
        """ "none", or "none @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.baseline, self.baseline_setting)

    @property
    def checks_disagree(self) -> bool:
        """Whether t (or the bootstrap) and the sign-flip test differ at 5 %, before any correction."""
        if self.p is None or self.sign_flip_p is None:
            return False
        return (self.p <= ALPHA) != (self.sign_flip_p <= ALPHA)


def number(record: RunRecord, metric: str, at: Phase) -> float:
    """One metric of one run, NaN where there is none (a crashed run has no numbers)."""
    return (record.final if at == "final" else record.best).get(metric, math.nan)


def compare(
    variant: Cell, baseline: Cell, metric: str, at: Phase, margin: Margin | None = None
) -> Comparison:
    """The paired difference of two variants, by the rules that `Comparison` states; a family of one."""
    ours, theirs = _finite(variant, metric, at), _finite(baseline, metric, at)
    planned = [seed for seed in variant.seeds if seed in baseline.seeds]
    paired = [seed for seed in planned if seed in ours and seed in theirs]
    first, second = [ours[seed] for seed in paired], [theirs[seed] for seed in paired]
    differences = [a - b for a, b in zip(first, second, strict=True)]
    method, (low, high), p = primary_interval(differences)
    welch_low, welch_high = welch_interval(first, second)
    inner_low, inner_high = paired_interval(differences, 1 - 2 * ALPHA)
    width = margin.value if margin and margin.metric == metric else None
    verdict = judge(metric, (low, high), len(paired), scale=max(map(abs, [*first, *second]), default=0.0))
    found = Comparison(
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
        detectable=None,
        verdict=verdict,
        uncorrected=verdict,
        method=method,
        p=p,
        sign_flip_p=sign_flip_p(differences),
        margin=width,
        inner_low=inner_low,
        inner_high=inner_high,
    )
    return corrected([found])[0]


def primary_interval(differences: Sequence[float]) -> tuple[Method, Interval, float | None]:
    """The 95 % interval that the verdict rests on, its method and its p value."""
    bootstrap = bootstrap_t(differences) if len(differences) >= MIN_BOOTSTRAP else None
    if bootstrap:
        return "bootstrap", bootstrap[:2], bootstrap[2]
    return "t", paired_interval(differences), paired_p(differences)


def corrected(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """The same comparisons with Holm's correction: those of one metric (and phase) are a family."""
    comparisons = list(comparisons)
    families: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, found in enumerate(comparisons):
        if found.uncorrected != "too_few_seeds":  # without a verdict there is nothing to correct
            families[found.metric, found.at].append(index)
    for indices in families.values():
        members = [comparisons[index] for index in indices]
        for index, found in zip(indices, _corrected_family(members), strict=True):
            comparisons[index] = found
    return tuple(comparisons)


def _corrected_family(family: Sequence[Comparison]) -> Iterable[Comparison]:
    differences = [[value for _, value in found.values] for found in family]
    p_values = holm([1.0 if found.p is None else found.p for found in family])
    margins = [
        None if found.margin is None else equivalence_p(values, found.margin)
        for found, values in zip(family, differences, strict=True)
    ]
    margin_p_values = holm([1.0 if p is None else p for p in margins])
    alpha = ALPHA / len(family)
    for found, values, p, margin_p in zip(family, differences, p_values, margin_p_values, strict=True):
        yield replace(
            found,
            family=len(family),
            p_holm=p,
            margin_p=None if found.margin is None else margin_p,
            detectable=detectable_difference(values, alpha),
            needed=seeds_needed(values, alpha),
            verdict=_corrected_verdict(found, p, margin_p),
        )


def _corrected_verdict(found: Comparison, p: float, margin_p: float) -> Verdict:
    """Inside the margin counts first: a difference that is sure but too small to matter is none."""
    if found.margin is not None and margin_p <= ALPHA:
        return "same"
    return found.uncorrected if p <= ALPHA else "undecided"


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
        return "too_few_seeds"
    nothing = ROUNDING * scale
    if low <= nothing and high >= -nothing:
        return "undecided"
    rises = low > nothing
    return "better" if rises == (metric_of(metric).better == "higher") else "worse"
