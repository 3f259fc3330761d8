"""How far two variants differ, seed by seed, with the uncertainty and the verdict.

The replicate is the seed: never an epoch, a batch or a sample. From 3 pairs on Student's t gives
the interval, which keeps its 95 % where the differences are roughly normal; a percentile bootstrap
of 3 seeds would keep 75 %. From 6 on the sign-flip test stands beside it as a check. From 20 on a
studentised bootstrap takes the place of t.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from bnbench.analysis.methods.intervals import (
    ALPHA,
    MIN_SEEDS,
    Interval,
    correlation,
    equivalence_p,
    holm,
    mean,
    paired_interval,
    paired_p,
    scatter,
    welch_interval,
)
from bnbench.analysis.methods.power import detectable_difference, scatter_factors, seeds_needed
from bnbench.analysis.methods.resampling import MIN_BOOTSTRAP, bootstrap_t, sign_flip_p
from bnbench.analysis.pairs import Pairs, Phase, pair_up
from bnbench.analysis.rates import wilson
from bnbench.base.metrics import metric_of
from bnbench.results import Cell
from bnbench.study import Margin
from bnbench.study.plan import cell_label

Verdict = Literal["better", "worse", "same", "undecided", "pairs_lost", "too_few_seeds"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Method = Literal["t", "bootstrap"]


@dataclass(frozen=True)
class Comparison:
    """A variant minus its baseline, in one metric, paired by seed.

    at: "final" (after the last step) or "best" (at the lowest validation loss). difference: mean
    over the n of n_planned seeds where both have a finite number. values: that of each seed. lost:
    pairs that ended without one, by the reason (see `Pairs`); then there is no verdict.
    grain: the largest change that one sample can make; no scatter below grain/√6 is believed. None
    where nothing bounds it; then equal differences of fewer than 6 seeds have no interval.
    ci_low, ci_high: the 95 % interval by `method` ("t"; "bootstrap" from 20 pairs on) for new seeds on
    these samples, not corrected for the number of comparisons. new_low, new_high: 95 % interval for
    new samples from the same source, never narrower (see `new_samples`); None where the answers on
    single test samples are not there. p: two-sided, of the same method. p_holm: p after Holm's
    correction over the `family` comparisons that verdicts were asked for; None without a verdict.
    family_low, family_high: the interval that all of the family hold together (at 5 % / family).
    sign_flip_p: from 6 pairs on. welch_low, welch_high: 95 % interval as if the runs were not
    paired. rho: correlation over the seeds, None where undefined; pairing pays where it is well
    above 0. better_share: of the seeds, ties one half, with Wilson's 95 % interval: how probable it is
    that the variant is better with a new seed. detectable: the true difference that n seeds with this
    scatter find in 4 studies of 5, and detectable_low, detectable_high: as well as n seeds know
    the scatter; two-sided at 5 % / family, None where n < 3. margin: what the study declares as no
    difference in this metric; seeds_for_margin: how many seeds find a true difference of that size;
    inner_low, inner_high: the 90 % t interval that is held against it; margin_p: p of the two
    one-sided tests, after Holm. twin: the first comparison of the family that has the same
    results, which counts for both. uncorrected: the verdict before Holm's correction and the margin.
    verdict, uncorrected: None where no verdict was asked for: any metric but the primary one.
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
    verdict: Verdict | None
    uncorrected: Verdict | None
    lost: Mapping[str, int] = field(default_factory=dict)
    grain: float | None = None
    new_low: float | None = None
    new_high: float | None = None
    num_samples: int | None = None
    method: Method = "t"
    p: float | None = None
    p_holm: float | None = None
    family: int = 1
    family_low: float | None = None
    family_high: float | None = None
    sign_flip_p: float | None = None
    better_share: float | None = None
    better_low: float | None = None
    better_high: float | None = None
    detectable: float | None = None
    detectable_low: float | None = None
    detectable_high: float | None = None
    margin: float | None = None
    seeds_for_margin: int | None = None
    inner_low: float | None = None
    inner_high: float | None = None
    margin_p: float | None = None
    twin: str | None = None

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
        if self.p is None or self.sign_flip_p is None or self.verdict in (None, "pairs_lost"):
            return False
        return (self.p <= ALPHA) != (self.sign_flip_p <= ALPHA)


def compare(
    variant: Cell, baseline: Cell, metric: str, at: Phase, margin: Margin | None = None
) -> Comparison:
    """The paired difference of two variants, by the rules that `Comparison` states; a family of one."""
    pairs = pair_up(variant, baseline, metric, at)
    differences, grain = pairs.differences, pairs.grain or 0.0
    method, (low, high), p = primary_interval(pairs)
    known = not pairs.say_nothing_of_scatter
    welch_low, welch_high = welch_interval(pairs.first, pairs.second, grain)
    inner_low, inner_high = paired_interval(differences, 1 - 2 * ALPHA, grain) if known else (None, None)
    verdict = judge(pairs, metric, (low, high))
    wins = pairs.wins if metric_of(metric).better == "higher" else len(differences) - pairs.wins
    better_low, better_high = wilson(wins, len(differences))
    found = Comparison(
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
    return corrected([found])[0]


def primary_interval(pairs: Pairs) -> tuple[Method, Interval, float | None]:
    """The 95 % interval that the verdict rests on, its method and its p value."""
    differences, grain = pairs.differences, pairs.grain or 0.0
    if pairs.say_nothing_of_scatter:
        return "t", (None, None), None
    bootstrap = bootstrap_t(differences, grain) if len(differences) >= MIN_BOOTSTRAP else None
    if bootstrap:
        return "bootstrap", bootstrap[:2], bootstrap[2]
    return "t", paired_interval(differences, grain=grain), paired_p(differences, grain)


def corrected(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """The same comparisons with Holm's correction: those of one metric (and phase) are a family.

    Comparisons with the same `twin` count once: they are one result, found twice. A twin of the
    baseline is not in the family: it is no other network. Those that lost pairs are in the family, as they
    were asked for; those with too few seeds, or no verdict, are not.
    """
    comparisons = list(comparisons)
    families: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for index, found in enumerate(comparisons):
        if found.uncorrected not in (None, "too_few_seeds"):
            families[found.metric, found.at, found.twin == found.baseline_label].append(index)
    for indices in families.values():
        members = [comparisons[index] for index in indices]
        for index, found in zip(indices, _corrected_family(members), strict=True):
            comparisons[index] = found
    return tuple(comparisons)


def _corrected_family(family: Sequence[Comparison]) -> Iterator[Comparison]:
    p_values, size = _holm_once(family, [found.p for found in family])
    margin_p_values, _ = _holm_once(family, [_margin_p(found) for found in family])
    for found, p, margin_p in zip(family, p_values, margin_p_values, strict=True):
        verdict = _corrected_verdict(found, p, margin_p)
        yield _planned(
            replace(
                found,
                family=size,
                p_holm=None if verdict == "pairs_lost" else p,
                margin_p=None if found.margin is None or verdict == "pairs_lost" else margin_p,
                verdict=verdict,
            )
        )


def _holm_once(family: Sequence[Comparison], p_values: Sequence[float | None]) -> tuple[list[float], int]:
    """Holm's p of each, twins counting once with the larger p of theirs; and how many there are."""
    largest: dict[str, float] = {}
    names = [found.twin or found.label for found in family]
    for found, name, p in zip(family, names, p_values, strict=True):
        usable = 1.0 if p is None or found.uncorrected == "pairs_lost" else p
        largest[name] = max(largest.get(name, 0.0), usable)
    adjusted = dict(zip(largest, holm(list(largest.values())), strict=True))
    return [adjusted[name] for name in names], len(largest)


def _margin_p(found: Comparison) -> float | None:
    if found.margin is None or found.inner_low is None:
        return None
    return equivalence_p([value for _, value in found.values], found.margin, found.grain or 0.0)


def _planned(found: Comparison) -> Comparison:
    """With what depends on the size of the family: its interval, and what so many seeds can find."""
    values, grain = [value for _, value in found.values], found.grain or 0.0
    alpha = ALPHA / found.family
    if found.ci_low is None or len(values) < MIN_SEEDS:
        return found
    detectable = detectable_difference(values, alpha, grain)
    low, high = scatter_factors(len(values))
    together: Interval = (found.ci_low, found.ci_high)
    if found.family > 1:
        bootstrap = bootstrap_t(values, grain, alpha) if found.method == "bootstrap" else None
        together = bootstrap[:2] if bootstrap else paired_interval(values, 1 - alpha, grain)
    needed = None if found.margin is None else seeds_needed(found.margin, scatter(values, grain), alpha)
    return replace(
        found,
        family_low=together[0],
        family_high=together[1],
        detectable=detectable,
        detectable_low=None if detectable is None else detectable * low,
        detectable_high=None if detectable is None else detectable * high,
        seeds_for_margin=needed,
    )


def _corrected_verdict(found: Comparison, p: float, margin_p: float) -> Verdict | None:
    """Inside the margin counts first: a difference that is sure but too small to matter is none."""
    if found.uncorrected == "pairs_lost":
        return "pairs_lost"
    if found.margin is not None and margin_p <= ALPHA:
        return "same"
    return found.uncorrected if p <= ALPHA else "undecided"


def with_verdicts(
    comparisons: Iterable[Comparison], primary: str, checks: Container[str] = ()
) -> tuple[Comparison, ...]:
    """Verdicts, corrected, for the primary metric after the last step alone; none of variants that are checks.

    A table of five variants and four metrics in which every number may have its word holds a false
    one in 12 to 18 % of studies without any difference. The others keep their numbers and intervals.
    """
    return corrected(
        found
        if (found.metric, found.at) == (primary, "final") and found.variant not in checks
        else replace(found, verdict=None, uncorrected=None, p_holm=None, margin_p=None)
        for found in comparisons
    )


def judge(pairs: Pairs, metric: str, interval: Interval) -> Verdict:
    """The verdict before any correction.

    Better or worse where the interval excludes 0 by more than rounding can do, and no pair is lost:
    the runs that are left when others diverged are no fair sample.
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
