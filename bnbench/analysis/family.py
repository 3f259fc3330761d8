"""A family of comparisons: Holm's correction, its intervals, and the verdicts after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace

from bnbench.analysis.difference import Difference, Verdict
from bnbench.analysis.methods.intervals import (
    ALPHA,
    MIN_SEEDS,
    Interval,
    equivalence_p,
    holm,
    paired_interval,
    scatter,
)
from bnbench.analysis.methods.power import detectable_difference, scatter_factors, seeds_needed
from bnbench.analysis.methods.resampling import bootstrap_t


def corrected(comparisons: Iterable[Difference]) -> tuple[Difference, ...]:
    """The same comparisons with Holm's correction: those of one metric (and phase) are a family.

    Comparisons with the same `twin` count once: they are one result, computed twice. A twin of the
    baseline is not in the family: it is the same network. Those that lost pairs are in the family, as they
    were asked for; those with too few seeds, or no verdict, are not.
    """
    comparisons = list(comparisons)
    families: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for index, difference in enumerate(comparisons):
        if difference.uncorrected not in (None, "too_few_seeds"):
            families[difference.metric, difference.at, difference.twin == difference.baseline_label].append(
                index
            )
    for indices in families.values():
        members = [comparisons[index] for index in indices]
        for index, difference in zip(indices, _corrected_family(members), strict=True):
            comparisons[index] = difference
    return tuple(comparisons)


def _corrected_family(family: Sequence[Difference]) -> Iterator[Difference]:
    p_values, size = _holm_once(family, [difference.p for difference in family])
    margin_p_values, _ = _holm_once(family, [_margin_p(difference) for difference in family])
    for difference, p, margin_p in zip(family, p_values, margin_p_values, strict=True):
        verdict = _corrected_verdict(difference, p, margin_p)
        yield _planned(
            replace(
                difference,
                family=size,
                p_holm=None if verdict == "pairs_lost" else p,
                margin_p=None if difference.margin is None or verdict == "pairs_lost" else margin_p,
                verdict=verdict,
            )
        )


def _holm_once(family: Sequence[Difference], p_values: Sequence[float | None]) -> tuple[list[float], int]:
    """Holm's p of each comparison, and how many count: twins count once, with their larger p."""
    largest: dict[str, float] = {}
    names = [difference.twin or difference.label for difference in family]
    for difference, name, p in zip(family, names, p_values, strict=True):
        usable = 1.0 if p is None or difference.uncorrected == "pairs_lost" else p
        largest[name] = max(largest.get(name, 0.0), usable)
    adjusted = dict(zip(largest, holm(list(largest.values())), strict=True))
    return [adjusted[name] for name in names], len(largest)


def _margin_p(difference: Difference) -> float | None:
    if difference.margin is None or difference.inner_low is None:
        return None
    return equivalence_p(
        [value for _, value in difference.values], difference.margin, difference.grain or 0.0
    )


def _planned(difference: Difference) -> Difference:
    """With what depends on the size of the family: its interval, and what so many seeds can find."""
    values, grain = [value for _, value in difference.values], difference.grain or 0.0
    alpha = ALPHA / difference.family
    if difference.ci_low is None or len(values) < MIN_SEEDS:
        return difference
    detectable = detectable_difference(values, alpha, grain)
    low, high = scatter_factors(len(values))
    together: Interval = (difference.ci_low, difference.ci_high)
    if difference.family > 1:
        bootstrap = bootstrap_t(values, grain, alpha) if difference.method == "bootstrap" else None
        together = bootstrap[:2] if bootstrap else paired_interval(values, 1 - alpha, grain)
    needed = (
        None if difference.margin is None else seeds_needed(difference.margin, scatter(values, grain), alpha)
    )
    return replace(
        difference,
        family_low=together[0],
        family_high=together[1],
        detectable=detectable,
        detectable_low=None if detectable is None else detectable * low,
        detectable_high=None if detectable is None else detectable * high,
        seeds_for_margin=needed,
    )


def _corrected_verdict(difference: Difference, p: float, margin_p: float) -> Verdict | None:
    """Inside the margin counts first: a difference that is sure but too small to matter is none."""
    if difference.uncorrected == "pairs_lost":
        return "pairs_lost"
    if difference.margin is not None and margin_p <= ALPHA:
        return "same"
    return difference.uncorrected if p <= ALPHA else "undecided"


def with_verdicts(
    comparisons: Iterable[Difference], primary: str, checks: Container[str] = ()
) -> tuple[Difference, ...]:
    """Verdicts, corrected, for the primary metric after the last step alone; none of variants that are checks.

    A table of five variants and four metrics in which every number may have its word holds a false
    one in 12 to 18 % of studies without any difference. The others keep their numbers and intervals.
    """
    return corrected(
        difference
        if (difference.metric, difference.at) == (primary, "final") and difference.variant not in checks
        else replace(difference, verdict=None, uncorrected=None, p_holm=None, margin_p=None)
        for difference in comparisons
    )
