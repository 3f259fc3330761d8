"""Speed with runs that never arrived: textbook curves, and studies whose answer can be had by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bnbench.analysis.convergence import area, kaplan_meier, median_time, summarize_target
from bnbench.analysis.serial import as_json
from bnbench.analysis.speed import compare_areas, compare_speed
from bnbench.analysis.summary import summarize
from bnbench.analysis.times import why_not_comparable
from bnbench.reports.tables.all import tables
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, Outcome, RunRecord

TARGET = Target("val_accuracy", 0.9)


def run(
    variant: str,
    seed: int,
    at: int | None,
    outcome: Outcome = "finished",
    threads: int = 1,
    device: str = "cpu",
) -> RunRecord:
    """50 steps in 5 s, evaluated every 10, 100 samples a step; accuracy 0.5 before `at`, 0.95 from there on."""
    history = tuple(
        HistoryRow(s, s / 25, s / 10, None, {"val_accuracy": 0.95 if at is not None and s >= at else 0.5})
        for s in range(0, 51, 10)
    )
    final = {"val_accuracy": history[-1].metrics["val_accuracy"], "val_loss": 0.1}
    return RunRecord(
        variant, {}, seed, variant, variant, outcome, None, 50, 50, 25, 5.0, 7, final, final, history=history,
        environment={"device": device, "device_name": "x", "num_threads": threads},
        num_samples={"train": 2500, "val": 100, "test": 400},
    )  # fmt: skip


def cell(variant: str, steps: Sequence[int | None], **more: object) -> Cell:
    runs = tuple(run(variant, seed, at, **more) for seed, at in enumerate(steps))  # type: ignore[arg-type]
    return Cell(variant, {}, variant, tuple(range(len(steps))), runs)


def test_kaplan_meier_of_the_leukemia_data() -> None:
    # Freireich et al. 1963, weeks in remission with 6-MP (+ censored); S(t) as in Collett and in Kleinbaum & Klein
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    censored = {3, 5, 7, 8, 11, 12, 13, 16, 17, 18, 19, 20}
    curve = kaplan_meier(times, [index not in censored for index in range(21)])
    published = [(6, 0.857), (7, 0.807), (10, 0.753), (13, 0.690), (16, 0.627), (22, 0.538), (23, 0.448)]
    assert [(time, round(share, 3)) for time, share in curve] == published
    assert median_time(curve) == 23


def test_against_r_kaplan_meier_of_the_aml_data() -> None:
    # R: survfit(Surv(time, status) ~ x, data = aml): medians 31 (maintained) and 23
    maintained = [9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161]
    assert (
        median_time(
            kaplan_meier(maintained, [True, True, False, True, True, False, True, True, False, True, False])
        )
        == 31
    )
    other = [5, 5, 8, 8, 12, 16, 23, 27, 30, 33, 43, 45]
    assert median_time(kaplan_meier(other, [index != 5 for index in range(12)])) == 23


def test_median_lies_between_the_times_around_one_half() -> None:
    assert median_time(kaplan_meier([1, 2, 3, 4], [True] * 4)) == 2.5
    assert median_time(kaplan_meier([1, 2, 9, 9], [True, True, False, False])) is None
    assert median_time([]) is None


def test_seconds_are_censored_at_what_each_run_took_and_a_diverged_one_never() -> None:
    runs = [*cell("a", [10, 20, None]).records, run("a", 3, 10, "not_finite")]
    summary = summarize_target(runs, TARGET)
    assert (summary.k, summary.n) == (2, 4)
    assert (summary.median_steps, summary.median_samples) == (None, None)  # half of them, and no more
    three = summarize_target(runs[:3], TARGET)
    assert (three.median_steps, three.median_samples, three.median_seconds) == (20, 2000, 2.0)


def test_restricted_mean_and_speed_up_by_hand() -> None:
    # steps: ours 10 20 never, theirs 30 40 40, budget 50: differences -20 -20 +10, mean -10, std 17.32,
    # half width 4.30265 * 17.32 / √3 = 43.03; ratios 3 and 2 where both: √6, of two seeds without an interval
    found = {c.clock: c for c in compare_speed(cell("a", [10, 20, None]), cell("b", [30, 40, 40]), TARGET)}
    steps = found["steps"]
    assert (steps.difference, steps.budget, steps.n, steps.n_both) == (pytest.approx(-10), 50, 3, 2)
    assert (steps.ci_low, steps.ci_high) == pytest.approx((-10 - 43.0265, -10 + 43.0265), abs=1e-3)
    assert steps.ratio == pytest.approx(math.sqrt(6))
    assert (steps.ratio_low, steps.ratio_high) == (None, None)
    assert found["epochs"].difference == pytest.approx(-10 / 25)
    assert found["samples"].difference == pytest.approx(-1000)
    assert found["seconds"].difference == pytest.approx(-1)


def test_the_interval_of_a_speed_up_by_hand() -> None:
    # ratios 3, 2, 4: 24^(1/3); logarithms 1.0986 0.6931 1.3863 with std 0.34825, half 4.30265 * 0.34825 / √3 = 0.8651
    steps = next(compare_speed(cell("a", [10, 20, 10]), cell("b", [30, 40, 40]), TARGET))
    ratio = 24 ** (1 / 3)
    assert steps.ratio == pytest.approx(ratio)
    ends = (ratio * math.exp(-0.86510), ratio * math.exp(0.86510))
    assert (steps.ratio_low, steps.ratio_high) == pytest.approx(ends, rel=1e-4)


def test_equal_times_are_known_no_better_than_to_an_evaluation() -> None:
    """Evaluated every 10 steps: a standard deviation of 10/√6, half width 4.30265 * 4.0825 / √3 = 10.1415."""
    both = list(compare_speed(cell("a", [20] * 3), cell("b", [20] * 3), TARGET))
    steps, epochs = both[:2]
    assert (steps.difference, steps.ci_low, steps.ci_high) == pytest.approx((0, -10.1415, 10.1415), abs=1e-3)
    assert (epochs.ci_low, epochs.ci_high) == pytest.approx((-10.1415 / 25, 10.1415 / 25), abs=1e-4)
    half = math.exp(10.1415 / 20)
    assert (steps.ratio, steps.ratio_low, steps.ratio_high) == pytest.approx((1, 1 / half, half), rel=1e-4)


def test_two_seeds_have_no_interval_of_speed() -> None:
    for found in compare_speed(cell("a", [10, 40]), cell("b", [40, 10]), TARGET):
        assert (found.ci_low, found.ci_high, found.ratio_low, found.ratio_high) == (None,) * 4
        assert found.n == 2


def test_the_budget_is_the_one_that_both_had() -> None:
    longer = tuple(replace(run("b", seed, None), planned_steps=100) for seed in range(2))
    steps = next(compare_speed(cell("a", [10, 20]), Cell("b", {}, "b", (0, 1), longer), TARGET))
    assert (steps.budget, steps.difference) == (50, 15 - 50)


def test_a_diverged_run_counts_with_the_whole_budget() -> None:
    ours = Cell("a", {}, "a", (0, 1), (run("a", 0, 10), run("a", 1, 10, "not_finite")))
    steps = next(compare_speed(ours, cell("b", [10, 10]), TARGET))
    assert (steps.difference, steps.n, steps.n_both) == (20, 2, 1)


def test_where_nobody_arrives_there_is_nothing_to_say() -> None:
    assert all(
        c.difference is None for c in compare_speed(cell("a", [None] * 3), cell("b", [None] * 3), TARGET)
    )


def test_seconds_of_other_engines_or_stacks_are_refused_with_the_reason() -> None:
    def by(engine: str | None, replicas: int) -> list[RunRecord]:
        more = {"engine": engine, "replicas": replicas} if engine else {}
        runs = cell("a", [10, 20]).records
        return [replace(one, environment={**one.environment, **more}) for one in runs]

    assert why_not_comparable(by("stacked", 5), by("stacked", 5)) == ""
    assert why_not_comparable(by("stacked", 5), by("stacked", 2)) == "in stacks of other sizes"
    both = [*by("stacked", 3), *by("stacked", 2)]
    assert why_not_comparable(both, both) == ""
    assert (
        why_not_comparable(by("stacked", 1), by("sequential", 1)) == "by the stacked engine, not sequential"
    )
    # runs of before there were engines were trained one by one
    assert why_not_comparable(by("stacked", 1), by(None, 1)) == "by the stacked engine, not sequential"
    assert why_not_comparable(by("sequential", 1), by(None, 1)) == ""


def test_seconds_of_other_threads_or_devices_are_refused_with_the_reason() -> None:
    slow, fast = cell("a", [10, 20, 30]), cell("b", [10, 20, 30], threads=2)
    assert why_not_comparable(fast.records, slow.records) == "2 threads, not 1"
    assert why_not_comparable(cell("c", [10], device="cuda").records, slow.records) == "on cuda, not cpu"
    mixed = (*slow.records, *cell("c", [10], device="cuda").records)
    assert why_not_comparable(mixed, mixed) == "on cpu and cuda"
    assert why_not_comparable(slow.records, slow.records) == ""
    *counted, seconds = compare_speed(fast, slow, TARGET)
    assert (seconds.difference, seconds.ratio, seconds.refused) == (None, None, "2 threads, not 1")
    assert all(c.difference == 0 for c in counted)
    summary = summarize(StudyResults("demo", "a", (TARGET,), (slow, fast)))
    shown = {table.title: table for table in tables(summary)}
    assert shown["Cost and outcomes"].rows[1][2] == "2 threads, not 1"
    assert "no seconds are compared" in shown["Cost and outcomes"].caption
    assert shown["Time to target: val_accuracy >= 90%"].rows[1][4] == "2 threads, not 1"
    assert shown["Speed-up to target: val_accuracy >= 90%"].rows[3][2:5] == ("2 threads, not 1", "3", "–")
    assert as_json(summary)["variants"][1]["seconds_refused"] == "2 threads, not 1"


def test_area_by_hand() -> None:
    # accuracy 0.5 up to step 20, 0.95 from 30 on: 20 * 0.5 + 10 * 0.725 + 20 * 0.95 = 36.25 of 50
    assert area(run("a", 0, 30), "val_accuracy", 50) == pytest.approx(0.725)
    assert area(run("a", 0, 30), "val_accuracy", 25) == pytest.approx((20 * 0.5 + 5 * 0.6125) / 25)
    assert math.isnan(area(run("a", 0, 30), "val_accuracy", 60))
    found = compare_areas(cell("a", [10, 20]), cell("b", [30, 30]), "val_accuracy")
    assert found.difference == pytest.approx((20 + 10) / 2 * 0.45 / 50)
    assert (found.n, found.n_planned) == (2, 2)


def test_match_baseline_is_what_the_baseline_reaches_at_the_end() -> None:
    cells = (cell("b", [30, 30, None]), cell("a", [10, 20, 20]))
    matched = Target("val_accuracy", math.nan, match_baseline=True)
    summary = summarize(StudyResults("demo", "b", (matched,), cells))
    assert summary.targets[0].value == pytest.approx((0.95 + 0.95 + 0.5) / 3)
    assert [variant.targets[0].k for variant in summary.variants] == [2, 3]
    table = next(table for table in tables(summary) if table.title.startswith("Time to target"))
    assert table.title == "Time to target: val_accuracy >= 80% (match_baseline)"
    assert "circular" in table.caption
    assert as_json(summary)["target"]["match_baseline"]


def test_a_baseline_without_an_end_can_not_be_matched() -> None:
    lost = tuple(RunRecord("b", {}, s, "b", "b", "crashed", error="x") for s in range(3))
    matched = Target("val_accuracy", math.nan, match_baseline=True)
    cells = (Cell("b", {}, "b", (0, 1, 2), lost), cell("a", [10, 20, 20]))
    summary = summarize(StudyResults("demo", "b", (matched,), cells))
    assert any("ended without a val_accuracy to match" in warning for warning in summary.warnings)
    assert as_json(summary)["target"]["value"] is None
