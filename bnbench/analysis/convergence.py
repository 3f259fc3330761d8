"""When a run reached a target, and how runs that never did are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from bnbench.base.metrics import metric_of, value_of
from bnbench.study import Target
from bnbench.study.records import RunRecord

Clock = Literal["steps", "epochs", "samples", "seconds"]
CLOCKS: tuple[Clock, ...] = ("steps", "epochs", "samples", "seconds")


@dataclass(frozen=True)
class Reached:
    """The first evaluation that reached a target. seconds: training time, without evaluation.

    samples: trained on until then, None in folders that do not say how many an epoch has.
    """

    step: int
    epoch: float
    seconds: float
    samples: float | None = None

    def at(self, clock: Clock) -> float | None:
        """The same moment on one of the clocks."""
        return {
            "steps": self.step,
            "epochs": self.epoch,
            "samples": self.samples,
            "seconds": self.seconds,
        }[clock]


@dataclass(frozen=True)
class TargetSummary:
    """One target over the runs of a cell.

    reached: one entry a run, None where it is censored at its budget. The medians are Kaplan and
    Meier's over all runs; None where the curve never falls below one half: not reached by most.
    budget: planned steps of a run. evaluated_every: steps between evaluations, which is how finely
    the times are known (None where nothing is known of them). areas: one entry a run, see `area`.
    """

    target: Target
    reached: tuple[Reached | None, ...]
    median_steps: float | None
    median_epochs: float | None
    median_samples: float | None
    median_seconds: float | None
    budget: int
    evaluated_every: int | None
    areas: tuple[float, ...] = ()

    @property
    def n(self) -> int:
        """Runs that ended, whatever their outcome."""
        return len(self.reached)

    @property
    def k(self) -> int:
        """Runs that reached the target."""
        return sum(time is not None for time in self.reached)


def reached(record: RunRecord, target: Target) -> Reached | None:
    """The first evaluation whose own, un-smoothed metric reaches the target; None: censored at the budget.

    Only a finished run can reach a target. One that ended in another way never did, even where
    it passed the value on its way: a network that can't be kept does not count.
    """
    if record.outcome != "finished" or record.was_only_looked_at:
        return None
    metric = metric_of(target.metric)
    for row in record.history:
        if metric.reaches(value_of(row.metrics, target.metric), target.value):
            train = record.num_samples.get("train")
            samples = None if train is None else row.epoch * train
            return Reached(row.step, row.epoch, row.train_seconds, samples)
    return None


def summarize_target(records: Sequence[RunRecord], target: Target) -> TargetSummary:
    """One target over the runs of a cell, none of them dropped."""
    times = tuple(reached(record, target) for record in records)
    steps, epochs, samples, seconds = (_median_on(clock, records, times) for clock in CLOCKS)
    budget = max((record.planned_steps for record in records), default=0)
    return TargetSummary(
        target=target,
        reached=times,
        median_steps=steps,
        median_epochs=epochs,
        median_samples=samples,
        median_seconds=seconds,
        budget=budget,
        evaluated_every=evaluated_every(records),
        areas=tuple(area(record, target.metric, budget) for record in records),
    )


def budget_of(record: RunRecord, clock: Clock) -> float | None:
    """How long the run was allowed to go on one of the clocks; in seconds, how long it did go.

    None where it is not known: a run that crashed, the seconds of one that did not finish.
    """
    epochs = record.planned_steps / record.steps_per_epoch if record.steps_per_epoch else None
    match clock:
        case "steps":
            return record.planned_steps or None
        case "epochs":
            return epochs
        case "samples":
            train = record.num_samples.get("train")
            return None if epochs is None or train is None else epochs * train
        case "seconds":
            return record.train_seconds or None if record.outcome == "finished" else None


def kaplan_meier(times: Sequence[float], observed: Sequence[bool]) -> list[tuple[float, float]]:
    """The share of runs that have not reached the target after each time: (time, share), by time.

    observed: whether the run reached it then; else it is censored then: known to take longer. A
    run censored at the time of another's success counts as longer than it. (Kaplan and Meier 1958:
    S(t) is the product over event times of 1 - events / at risk.)
    """
    curve, share = [], 1.0
    for moment in sorted({time for time, seen in zip(times, observed, strict=True) if seen}):
        at_risk = sum(time >= moment for time in times)
        events = sum(time == moment and seen for time, seen in zip(times, observed, strict=True))
        share *= 1 - events / at_risk
        curve.append((moment, share))
    return curve


def median_time(curve: Sequence[tuple[float, float]]) -> float | None:
    """Where a Kaplan-Meier curve falls below one half; None where it never does.

    A curve that lies at one half exactly between two times has its median in the middle of them.
    """
    low = None
    for moment, share in curve:
        if math.isclose(share, 0.5):
            low = moment
        elif share < 0.5:
            return moment if low is None else (low + moment) / 2
    return None


def area(record: RunRecord, metric: str, budget: float) -> float:
    """Area under the metric over the steps up to the budget, divided by the budget: its mean height.

    By the trapezium rule over the evaluations. NaN where the run has no finite value up to there.
    """
    points = [(row.step, value_of(row.metrics, metric)) for row in record.history]
    if not budget or not points or points[0][0] != 0 or points[-1][0] < budget:
        return math.nan
    total = 0.0
    for (start, first), (end, last) in pairwise(points):
        stop = min(end, budget)
        if stop > start:
            height = first + (last - first) * (stop - start) / (end - start)
            total += (stop - start) * (first + height) / 2
    return total / budget


def _median_on(clock: Clock, records: Sequence[RunRecord], times: Sequence[Reached | None]) -> float | None:
    """A run that did not finish never reached: it stays at risk for ever."""
    moments, observed = [], []
    for record, time in zip(records, times, strict=True):
        moment = time.at(clock) if time else budget_of(record, clock)
        if time and moment is None:
            return None
        moments.append(moment if record.outcome == "finished" and moment is not None else math.inf)
        observed.append(time is not None)
    return median_time(kaplan_meier(moments, observed))


def evaluated_every(records: Sequence[RunRecord]) -> int | None:
    """Steps between evaluations, the most that there are: how finely a time to a target is known."""
    gaps = [after.step - before.step for record in records for before, after in pairwise(record.history)]
    return max(gaps, default=None)
