"""When a run reaches its target: by hand-written histories whose answer is plain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from bnbench.analysis.convergence import Reached, reached, summarize_target
from bnbench.study import Target
from bnbench.study.records import HistoryRow, Outcome, RunRecord

TARGET = Target("val_accuracy", 0.97)


def record(
    accuracies: Sequence[float], outcome: Outcome = "finished", seed: int = 0, metric: str = "val_accuracy"
) -> RunRecord:
    """A run evaluated every 10 steps, 20 steps an epoch, 2 s between evaluations."""
    history = tuple(
        HistoryRow(10 * i, i / 2, 2.0 * i, None, {metric: value}) for i, value in enumerate(accuracies)
    )
    return RunRecord("batch", {}, seed, "c", "batch", outcome, planned_steps=40, history=history)


def test_first_evaluation_that_reaches_counts_even_where_it_falls_back() -> None:
    assert reached(record([0.1, 0.5, 0.98, 0.90, 0.99]), TARGET) == Reached(20, 1.0, 4.0)


def test_equal_to_the_target_is_reached() -> None:
    assert reached(record([0.1, 0.97]), TARGET) == Reached(10, 0.5, 2.0)


def test_a_loss_reaches_its_target_from_above() -> None:
    target = Target("val_loss", 0.2)
    assert reached(record([2.3, 0.3, 0.19], metric="val_loss"), target) == Reached(20, 1.0, 4.0)


def test_never_reached_is_none() -> None:
    assert reached(record([0.1, 0.5, 0.9699]), TARGET) is None


def test_nan_never_reaches() -> None:
    assert reached(record([0.1, math.nan, math.nan]), TARGET) is None
    assert reached(record([math.nan, 0.1], metric="val_loss"), Target("val_loss", 0.2)) == Reached(
        10, 0.5, 2.0
    )


@pytest.mark.parametrize("outcome", ["not_finite", "crashed"])
def test_a_run_that_did_not_finish_never_reached(outcome: Outcome) -> None:
    assert reached(record([0.1, 0.98, 0.1], outcome), TARGET) is None


def test_median_counts_a_censored_run_as_later_than_any_other() -> None:
    # steps to target: 10, 20, never -> the median is 20, not the 15 of the survivors
    runs = [record([0.1, 0.98]), record([0.1, 0.2, 0.98]), record([0.1, 0.2, 0.3])]
    summary = summarize_target(runs, TARGET)
    assert (summary.k, summary.n, summary.budget, summary.evaluated_every) == (2, 3, 40, 10)
    assert (summary.median_steps, summary.median_epochs, summary.median_seconds) == (20, 1.0, 4.0)


def test_median_is_none_where_it_is_censored() -> None:
    runs = [record([0.1, 0.98]), record([0.1, 0.2]), record([0.1, 0.98], "not_finite")]
    summary = summarize_target(runs, TARGET)
    assert (summary.k, summary.n, summary.median_steps) == (1, 3, None)


def test_median_of_an_even_number_with_one_censored_half() -> None:
    # 10 and never: the middle lies between 10 and infinity, so it is not known
    assert summarize_target([record([0.1, 0.98]), record([0.1])], TARGET).median_steps is None


def test_no_runs_at_all() -> None:
    summary = summarize_target([], TARGET)
    assert (summary.k, summary.n, summary.median_steps, summary.evaluated_every) == (0, 0, None, None)
