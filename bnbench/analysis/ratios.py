"""Times to a target as ratios: each variant against the baseline and against the fastest, on one workload."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.convergence import Clock, Reached
from bnbench.analysis.speed import grain_of, speed_up

#: The clocks of the ratios: epochs and samples of one study are its steps in another unit.
RATIO_CLOCKS: tuple[Clock, ...] = ("steps", "seconds")


#: Why a workload has no ratio. at the start: the target was reached before the first step. not
#: comparable: seconds of different machines, threads, engines or sizes of stacks, or no seed that all share.
#: runs missing: planned runs of the variant or of the baseline have not ended yet; that is not a missed target.
Gap = Literal["", "no target", "no baseline", "missed", "at the start", "not comparable", "runs missing"]


@dataclass(frozen=True)
class Speed:
    """A variant's time to the study's first target on one clock.

    time: geometric mean over the seeds, infinite where a planned run missed the target, None where
    it is not known. ratio: speed-up, the baseline's time over the variant's, with the 95 %
    paired t interval over seeds; None for the baseline itself, and where there is a `gap`. tau: the
    time over the time of the workload's fastest variant; infinite where the target was missed.
    """

    time: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    tau: float | None = None
    gap: Gap = ""


def speeds_on(variants: Mapping[str, VariantSummary], summary: Summary, clock: Clock) -> dict[str, Speed]:
    """Every variant's time on the seeds that all those have that reached the target with every seed."""
    if not summary.targets:
        return dict.fromkeys(variants, Speed(gap="no target"))
    partial = {name for name, variant in variants.items() if len(variant.runs) < len(variant.seeds)}
    speeds = _speeds_of_runs(variants, summary, clock)
    for name in variants:
        if name in partial:
            speeds[name] = Speed(gap="runs missing")
        elif summary.baseline in partial:
            known = speeds[name]
            speeds[name] = Speed(time=known.time, tau=known.tau, gap="runs missing")
    return speeds


def _speeds_of_runs(
    variants: Mapping[str, VariantSummary], summary: Summary, clock: Clock
) -> dict[str, Speed]:
    times = {name: _times(variant, clock) for name, variant in variants.items()}
    whole = [by_seed for by_seed in times.values() if by_seed is not None]
    seeds = sorted(set.intersection(*map(set, whole))) if whole else []
    if whole and (not seeds or _incomparable(variants, clock)):
        return _without_ratio(times, "not comparable")
    if any(by_seed[seed] <= 0 for by_seed in whole for seed in seeds):
        return _without_ratio(times, "at the start")
    logs = {
        name: math.inf if by_seed is None else statistics.fmean(math.log(by_seed[seed]) for seed in seeds)
        for name, by_seed in times.items()
    }
    fastest = min(logs.values())
    speeds = {}
    for name, log in logs.items():
        tau = math.exp(min(log - fastest, 700.0)) if math.isfinite(log) else math.inf
        speeds[name] = Speed(time=math.exp(log), tau=tau)
        if name != summary.baseline:
            baseline_times = times.get(summary.baseline, {})
            speeds[name] = _against(speeds[name], times[name], baseline_times, seeds, _grain(variants, clock))
    return speeds


def _without_ratio(times: Mapping[str, Mapping[int, float] | None], gap: Gap) -> dict[str, Speed]:
    """For the variants that arrived there is that reason; those that missed have missed all the same."""
    missed = Speed(gap="missed", time=math.inf, tau=math.inf)
    return {name: missed if by_seed is None else Speed(gap=gap) for name, by_seed in times.items()}


def _grain(variants: Mapping[str, VariantSummary], clock: Clock) -> float:
    return grain_of([run for variant in variants.values() for run in variant.runs], clock)


def _against(
    speed: Speed,
    times: Mapping[int, float] | None,
    baseline_times: Mapping[int, float] | None,
    seeds: Sequence[int],
    grain: float,
) -> Speed:
    """With its ratio to the baseline's times, or with the reason that there is none."""
    if times is None or baseline_times is None:
        return replace(speed, gap="missed")
    if not baseline_times:
        return replace(speed, gap="no baseline")
    ratio, low, high = speed_up(
        [times[seed] for seed in seeds], [baseline_times[seed] for seed in seeds], grain
    )
    return replace(speed, ratio=ratio, ratio_low=low, ratio_high=high)


def _times(variant: VariantSummary, clock: Clock) -> dict[int, float] | None:
    """Seed by seed; None where a planned run missed the target."""
    target = variant.targets[0]
    reached = [time.at(clock) for time in target.reached if isinstance(time, Reached)]
    if len(reached) < len(variant.seeds):
        return None
    seeds = (run.seed for run in variant.runs)
    return {seed: time for seed, time in zip(seeds, reached, strict=True) if time is not None}


def _incomparable(variants: Mapping[str, VariantSummary], clock: Clock) -> bool:
    """Whether the seconds of some variant can't be held against the baseline's."""
    return clock == "seconds" and any(variant.seconds_refused for variant in variants.values())
