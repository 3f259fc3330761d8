"""When a run reached a target, and what is said of the runs that never did."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bnbench.config import Target
from bnbench.metrics import metric_of
from bnbench.plan import RunRecord


@dataclass(frozen=True)
class Reached:
    """The first evaluation that reached a target. seconds: training time, without evaluation."""

    step: int
    epoch: float
    seconds: float


@dataclass(frozen=True)
class TargetSummary:
    """One target over the runs of a cell.

    reached: one entry a run, None where it is censored at its budget. The medians are over all
    runs, a censored one counting as longer than any other: None where the median is censored.
    budget: planned steps of a run. evaluated_every: steps between evaluations, which is how
    finely the times are known (None where nothing is known of them).
    """

    target: Target
    reached: tuple[Reached | None, ...]
    median_steps: float | None
    median_epochs: float | None
    median_seconds: float | None
    budget: int
    evaluated_every: int | None

    @property
    def n(self) -> int:
        """Runs that ended, one way or another."""
        return len(self.reached)

    @property
    def k(self) -> int:
        """Runs that reached the target."""
        return sum(time is not None for time in self.reached)


def reached(record: RunRecord, target: Target) -> Reached | None:
    """The first evaluation whose own, un-smoothed metric reaches the target; None: censored at the budget.

    Only a finished run can reach a target. One that diverged or crashed never did, even where
    it passed the value on its way: a network that can't be kept is no success.
    """
    if record.outcome != "finished":
        return None
    metric = metric_of(target.metric)
    for row in record.history:
        if metric.reaches(row.metrics.get(target.metric, math.nan), target.value):
            return Reached(row.step, row.epoch, row.train_seconds)
    return None


def summarize_target(records: Sequence[RunRecord], target: Target) -> TargetSummary:
    """One target over the runs of a cell, none of them dropped."""
    times = tuple(reached(record, target) for record in records)
    return TargetSummary(
        target,
        times,
        _median([time.step if time else math.inf for time in times]),
        _median([time.epoch if time else math.inf for time in times]),
        _median([time.seconds if time else math.inf for time in times]),
        budget=max((record.planned_steps for record in records), default=0),
        evaluated_every=_evaluated_every(records),
    )


def _median(times: Sequence[float]) -> float | None:
    middle = statistics.median(times) if times else math.inf
    return middle if math.isfinite(middle) else None


def _evaluated_every(records: Sequence[RunRecord]) -> int | None:
    gaps = [
        after.step - before.step
        for record in records
        for before, after in zip(record.history, record.history[1:], strict=False)
    ]
    return max(gaps, default=None)
