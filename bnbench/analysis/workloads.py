"""Several studies together: each is a workload, and a variant is the same one where it has the same name.

The replicate is now the workload. Times to a target become ratios, so that workloads of any length
count the same; their mean is geometric. A miss is never turned into a number: a workload whose
target a variant or its baseline missed with some seed has no ratio, and is named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.convergence import Clock
from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import paired_interval
from bnbench.analysis.ratios import RATIO_CLOCKS, Gap, Speed, speeds_on
from bnbench.analysis.speed import mean_ratio

#: Fewer workloads than this give a geometric mean, but no interval.
MIN_WORKLOADS = 3


@dataclass(frozen=True)
class Standing:
    """A variant on a workload (in a sweep at its best setting, and so is the baseline).

    comparison: with the baseline, of the final primary metric; None for the baseline, and where
    there is none. reached of planned runs reached the target; so did base_reached of base_planned.
    """

    workload: str
    variant: str
    label: str
    baseline: str
    comparison: Difference | None
    reached: int
    planned: int
    base_reached: int
    base_planned: int
    speeds: Mapping[Clock, Speed] = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        """Whether the variant is the baseline of this workload."""
        return self.variant == self.baseline


@dataclass(frozen=True)
class MeanSpeedUp:
    """Geometric mean of a variant's speed-ups over n of num_workloads workloads, on one clock.

    low, high: 95 % t interval of the mean logarithm over workloads; None for fewer than 3. left_out:
    the workloads that have no ratio, and why.
    """

    variant: str
    clock: Clock
    ratio: float | None
    low: float | None
    high: float | None
    n: int
    num_workloads: int
    left_out: tuple[tuple[str, Gap], ...]


@dataclass(frozen=True)
class Profile:
    """A performance profile (Dolan and Moré 2002): how often a variant is within a factor of the fastest.

    taus: one a workload that the variant is in and that has a target.
    """

    variant: str
    clock: Clock
    taus: tuple[float, ...]

    def within(self, factor: float) -> int:
        """On how many workloads the variant takes at most `factor` times as long as the fastest."""
        return sum(
            tau <= factor * (1 + 1e-9) for tau in self.taus
        )  # 1.5 is within 1.5, whatever its last bit


@dataclass(frozen=True)
class Workloads:
    """Several studies' results, side by side.

    names: the workloads. variants: every name, in order of appearance. standings: one a variant and
    workload that has it. notes: where the studies are not alike. cautions: what limits the verdict of each study.
    """

    names: tuple[str, ...]
    variants: tuple[str, ...]
    standings: tuple[Standing, ...]
    means: tuple[MeanSpeedUp, ...]
    profiles: tuple[Profile, ...]
    notes: tuple[str, ...]
    cautions: tuple[str, ...] = ()

    def of(self, variant: str) -> list[Standing]:
        """The standings of one variant."""
        return [standing for standing in self.standings if standing.variant == variant]

    def compared(self, variant: str) -> list[Standing]:
        """The standings of one variant where it is not the baseline."""
        return [standing for standing in self.of(variant) if not standing.is_baseline]

    def verdicts(self, variant: str) -> Counter[str]:
        """How often each verdict was reached; "no verdict" where a study has nothing to compare."""
        comparisons = (standing.comparison for standing in self.compared(variant))
        return Counter((comparison and comparison.verdict) or "no verdict" for comparison in comparisons)


def compare_workloads(studies: Mapping[str, Summary]) -> Workloads:
    """Compare studies side by side. studies: by the names of the workloads."""
    standings = tuple(standing for name, summary in studies.items() for standing in _standings(name, summary))
    variants = tuple(dict.fromkeys(standing.variant for standing in standings))
    return Workloads(
        names=tuple(studies),
        variants=variants,
        standings=standings,
        means=tuple(_means(variants, standings)),
        profiles=tuple(_profiles(variants, standings)),
        notes=tuple(_notes(studies, variants)),
        cautions=tuple(f"{name}: {text}" for name, summary in studies.items() for text in summary.cautions),
    )


def _standings(workload: str, summary: Summary) -> Iterator[Standing]:
    variants = summary.at_best_setting
    baseline = variants.get(summary.baseline)
    speeds = {clock: speeds_on(variants, summary, clock) for clock in RATIO_CLOCKS}
    for name in dict.fromkeys(variant.variant for variant in summary.variants):
        if name in summary.checks:
            continue
        variant = variants[name]
        yield Standing(
            workload=workload,
            variant=name,
            label=variant.label,
            baseline=summary.baseline,
            comparison=_comparison(summary, name),
            reached=_reached(variant),
            planned=len(variant.seeds),
            base_reached=_reached(baseline) if baseline else 0,
            base_planned=len(baseline.seeds) if baseline else 0,
            speeds={clock: speeds[clock][name] for clock in RATIO_CLOCKS},
        )


def _comparison(summary: Summary, variant: str) -> Difference | None:
    for difference in summary.best_comparisons or summary.comparisons:
        if (difference.variant, difference.metric, difference.at) == (variant, summary.primary, "final"):
            return difference
    return None


def _reached(variant: VariantSummary) -> int:
    return variant.targets[0].k if variant.targets else 0


def _means(variants: Iterable[str], standings: Sequence[Standing]) -> Iterator[MeanSpeedUp]:
    for variant in variants:
        compared = [
            standing for standing in standings if standing.variant == variant and not standing.is_baseline
        ]
        for clock in RATIO_CLOCKS if compared else ():
            ratios = [standing.speeds[clock].ratio for standing in compared]
            yield MeanSpeedUp(
                variant,
                clock,
                *geometric_mean([ratio for ratio in ratios if ratio is not None]),
                n=sum(ratio is not None for ratio in ratios),
                num_workloads=len(compared),
                left_out=tuple(
                    (standing.workload, standing.speeds[clock].gap)
                    for standing in compared
                    if standing.speeds[clock].gap
                ),
            )


def geometric_mean(ratios: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Of one ratio a workload: the mean, and from 3 workloads on the 95 % t interval of the mean logarithm."""
    logs = [math.log(ratio) for ratio in ratios]
    return mean_ratio(logs, *(paired_interval(logs) if len(logs) >= MIN_WORKLOADS else (None, None)))


def _profiles(variants: Iterable[str], standings: Sequence[Standing]) -> Iterator[Profile]:
    for clock in RATIO_CLOCKS:
        for variant in variants:
            all_taus = (standing.speeds[clock].tau for standing in standings if standing.variant == variant)
            taus = tuple(tau for tau in all_taus if tau is not None)
            if taus:
                yield Profile(variant, clock, taus)


def _notes(studies: Mapping[str, Summary], variants: Iterable[str]) -> Iterator[str]:
    yield from _unlike(studies, "baselines", "baseline")
    yield from _unlike(studies, "primary metrics", "primary")
    for name, summary in studies.items():
        if not summary.targets:
            yield f"{name} has no target, so its speed is not compared."
        elif len(summary.targets) > 1:
            first = summary.targets[0]
            yield f"{name} has {len(summary.targets)} targets; its speed is the time to the first, {first.metric}."
        if summary.best_settings:
            yield f"{name} is a sweep: each of its variants stands for its best setting."
    for variant in variants:
        missing = [name for name, s in studies.items() if variant not in {v.variant for v in s.variants}]
        if missing:
            yield f"{variant} is not in {', '.join(missing)}."


def _unlike(studies: Mapping[str, Summary], title: str, attribute: str) -> Iterator[str]:
    """For example "The baselines differ: none in a, b; batch in c.", nothing where they are all the same."""
    by_value: dict[str, list[str]] = {}
    for name, summary in studies.items():
        by_value.setdefault(getattr(summary, attribute), []).append(name)
    if len(by_value) > 1:
        values_text = "; ".join(f"{value} in {', '.join(names)}" for value, names in by_value.items())
        yield f"the {title} differ: {values_text}."
