"""How far two variants differ, seed by seed, with the uncertainty and the verdict.

The replicate is the seed: never an epoch, a batch or a sample. From 3 pairs on Student's t gives
the interval, which keeps its 95 % where the differences are roughly normal; a percentile bootstrap
of 3 seeds would keep 75 %. From 6 on the sign-flip test stands beside it as a check. From 20 on a
studentised bootstrap takes the place of t.
"""

from __future__ import annotations

from bnbench.analysis.difference import Difference, Method, Verdict
from bnbench.analysis.family import corrected
from bnbench.analysis.methods.intervals import (
    ALPHA,
    MIN_SEEDS,
    Interval,
    correlation,
    mean,
    paired_interval,
    paired_p,
    welch_interval,
)
from bnbench.analysis.methods.resampling import MIN_BOOTSTRAP, bootstrap_t, sign_flip_p
from bnbench.analysis.pairs import Pairs, Phase, pair_up
from bnbench.analysis.rates import wilson
from bnbench.base.metrics import metric_of
from bnbench.results import Cell
from bnbench.study import Margin


def compare(
    variant: Cell, baseline: Cell, metric: str, at: Phase, margin: Margin | None = None
) -> Difference:
    """The paired difference of two variants, by the rules that `Difference` states; a family of one."""
    pairs = pair_up(variant, baseline, metric, at)
    differences, grain = pairs.differences, pairs.grain or 0.0
    method, (low, high), p = primary_interval(pairs)
    known = not pairs.say_nothing_of_scatter
    welch_low, welch_high = welch_interval(pairs.first, pairs.second, grain)
    inner_low, inner_high = paired_interval(differences, 1 - 2 * ALPHA, grain) if known else (None, None)
    verdict = judge(pairs, metric, (low, high))
    wins = pairs.wins if metric_of(metric).better == "higher" else len(differences) - pairs.wins
    better_low, better_high = wilson(wins, len(differences))
    difference = Difference(
        variant=variant.variant,
        setting=variant.setting,
        baseline=baseline.variant,
        baseline_setting=baseline.setting,
        metric=metric,
        at=at,
        difference=mean(differences) if differences else None,
        ci_low=low,
        ci_high=high,
        n=len(differences),
        n_planned=pairs.planned,
        values=tuple(zip(pairs.seeds, differences, strict=True)),
        lost=pairs.lost,
        grain=pairs.grain,
        welch_low=welch_low,
        welch_high=welch_high,
        rho=correlation(pairs.first, pairs.second),
        verdict=verdict,
        uncorrected=verdict,
        method=method,
        p=p,
        sign_flip_p=sign_flip_p(differences),
        better_share=wins / len(differences) if differences else None,
        better_low=better_low,
        better_high=better_high,
        margin=margin.value if margin and margin.metric == metric else None,
        inner_low=inner_low,
        inner_high=inner_high,
    )
    return corrected([difference])[0]


def primary_interval(pairs: Pairs) -> tuple[Method, Interval, float | None]:
    """The 95 % interval that the verdict rests on, its method and its p value."""
    differences, grain = pairs.differences, pairs.grain or 0.0
    if pairs.say_nothing_of_scatter:
        return "t", (None, None), None
    bootstrap = bootstrap_t(differences, grain) if len(differences) >= MIN_BOOTSTRAP else None
    if bootstrap:
        return "bootstrap", bootstrap[:2], bootstrap[2]
    return "t", paired_interval(differences, grain=grain), paired_p(differences, grain)


def judge(pairs: Pairs, metric: str, interval: Interval) -> Verdict:
    """The verdict before any correction.

    Better or worse where the interval excludes 0 by more than rounding can do, and no pair is lost:
    the runs that are left when others diverged are not a fair sample.
    """
    low, high = interval
    if len(pairs.seeds) + sum(pairs.lost.values()) < MIN_SEEDS:
        return "too_few_seeds"
    if pairs.lost:
        return "pairs_lost"
    if low is None or high is None or (low <= pairs.rounding and high >= -pairs.rounding):
        return "undecided"
    rises = low > pairs.rounding
    return "better" if rises == (metric_of(metric).better == "higher") else "worse"
