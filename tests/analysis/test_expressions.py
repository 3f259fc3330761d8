"""Expressions on made-up results: values and intervals against scipy, verdicts against the rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bnbench.analysis.claims import Part, together
from bnbench.analysis.expressions import measure
from bnbench.analysis.measured import Measured
from bnbench.analysis.quantities import values_of
from bnbench.analysis.shares import share_interval
from bnbench.base.errors import UnknownNameError
from bnbench.results import StudyResults
from bnbench.study import Margin, Target
from bnbench.study.expressions import parse_expression
from bnbench.study.records import ProbeRow, RunRecord
from tests.fabricated import cell, record, results
from tests.sweep_studies import results as swept

A = (0.31, 0.28, 0.36, 0.30, 0.33)
B = (0.52, 0.41, 0.50, 0.49, 0.55)


def losses(values: Mapping[str, Sequence[float]], **fields: Any) -> StudyResults:
    """Variants whose final losses are these, on every part."""
    cells = [
        cell(name, [record(name, seed, (2.3, loss), **fields) for seed, loss in enumerate(column)])
        for name, column in values.items()
    ]
    return results(*cells)


def measured(study: StudyResults, text: str) -> Measured:
    return measure(study, parse_expression(text))


def t_interval(values: Any, confidence: float = 0.95) -> tuple[float, float]:
    """scipy's one-sample t interval."""
    interval = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    return interval.low, interval.high


def test_a_difference_against_scipy() -> None:
    found = measured(losses({"b": B, "a": A}), "a.test_loss - b.test_loss < 0")
    differences = np.subtract(A, B)
    assert found.value == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx(t_interval(differences))
    assert (found.inner_low, found.inner_high) == pytest.approx(t_interval(differences, 0.9))
    assert (found.verdict, found.n, found.method) == ("confirmed", 5, "t")


def test_a_ratio_is_geometric() -> None:
    found = measured(losses({"b": B, "a": A}), "b.val_loss / a.val_loss > 1")
    logs = np.log(np.divide(B, A))
    assert found.value == pytest.approx(stats.gmean(np.divide(B, A)))
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(t_interval(logs))))
    assert found.verdict == "confirmed"
    assert measured(losses({"b": B, "a": A}), "b.val_loss / a.val_loss > 1.6").verdict == "undecided"
    assert measured(losses({"b": B, "a": A}), "b.val_loss / a.val_loss > 3").verdict == "refuted"


def test_a_sum_in_brackets_is_a_difference_of_differences() -> None:
    c, d = (0.1, 0.2, 0.3, 0.15, 0.12), (0.05, 0.19, 0.21, 0.11, 0.1)
    study = losses({"a": A, "b": B, "c": c, "d": d})
    text = "(a.test_loss - b.test_loss) - (c.test_loss - d.test_loss) < 0"
    change = np.subtract(A, B) - np.subtract(c, d)
    assert (measured(study, text).low, measured(study, text).high) == pytest.approx(t_interval(change))


def test_one_quantity_against_a_number() -> None:
    found = measured(losses({"a": A}), "a.test_loss < 0.4")
    assert (found.low, found.high) == pytest.approx(t_interval(A))
    assert (found.verdict, found.difference) == ("confirmed", False)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("a.test_loss - b.test_loss < 0", "confirmed"),
        ("a.test_loss - b.test_loss <= 0", "confirmed"),
        ("a.test_loss - b.test_loss > 0", "refuted"),
        ("a.test_loss < b.test_loss", "confirmed"),
        ("a.test_loss - b.test_loss < 0 within 0.3", "not_confirmed"),  # sure, but within the margin
        ("a.test_loss - b.test_loss = 0 within 0.3", "confirmed"),
        ("a.test_loss - b.test_loss = 0 within 0.05", "refuted"),
        ("a.test_loss - b.test_loss = 0 within 0.19", "undecided"),
        ("a.test_loss / b.test_loss < 1 within 80%", "not_confirmed"),
    ],
)
def test_the_verdict_is_the_intervals(text: str, verdict: str) -> None:
    assert measured(losses({"b": B, "a": A}), text).verdict == verdict


def test_the_study_has_a_margin_of_its_metric() -> None:
    study = replace(losses({"b": B, "a": A}), margin=Margin("test_loss", 0.3))
    assert measured(study, "a.test_loss - b.test_loss < 0").verdict == "not_confirmed"
    assert measured(study, "a.val_loss - b.val_loss < 0").verdict == "confirmed"


def test_equal_differences_do_not_confirm() -> None:
    """A loss has no grain: five equal differences say nothing of the scatter."""
    found = measured(losses({"b": (0.5,) * 5, "a": (0.4,) * 5}), "a.test_loss - b.test_loss < 0")
    assert (found.verdict, found.reason, found.low) == ("undecided", "no_scatter", None)
    many = measured(losses({"b": (0.5,) * 30, "a": (0.4,) * 30}), "a.test_loss - b.test_loss < 0")
    assert (many.verdict, many.reason) == ("undecided", "no_scatter")


def test_an_accuracy_scatters_by_its_grain_at_least() -> None:
    """Equal on every seed: half-width t_4 · grain/√6 /√5, of 400 test samples."""
    samples = {"train": 900, "val": 100, "test": 400}
    study = losses({"b": (1.0,) * 5, "a": (0.5,) * 5}, num_samples=samples)
    found = measured(study, "a.test_accuracy - b.test_accuracy > 0")
    half = stats.t.ppf(0.975, 4) / 400 / math.sqrt(6) / math.sqrt(5)
    assert (found.low, found.high) == pytest.approx((0.05 - half, 0.05 + half))
    alone = measured(study, "a.test_accuracy > 0.9")
    half = stats.t.ppf(0.975, 4) / 400 / math.sqrt(12) / math.sqrt(5)
    assert (alone.low, alone.high) == pytest.approx((0.95 - half, 0.95 + half))
    assert alone.unit == "share"


def test_one_network_under_two_names_confirms_nothing() -> None:
    found = measured(losses({"b": A, "a": A}), "a.test_loss - b.test_loss < 0")
    assert (found.verdict, found.reason) == ("not_confirmed", "same_results")
    assert measured(losses({"b": A, "a": A}), "a.test_loss / b.test_loss < 1").reason == "same_results"


def test_lost_and_missing_pairs_have_no_verdict() -> None:
    good = [record("a", seed, (2.3, loss)) for seed, loss in enumerate(A)]
    other = [record("b", seed, (2.3, loss)) for seed, loss in enumerate(B)]
    lost = [*good[:4], record("a", 4, (2.3, math.nan), "not_finite")]
    found = measured(results(cell("b", other), cell("a", lost)), "a.test_loss - b.test_loss < 0")
    assert (found.verdict, found.reason, found.lost, found.n) == (
        "undecided",
        "pairs_lost",
        {"not_finite": 1},
        4,
    )
    short = results(cell("b", other), cell("a", good[:3], seeds=5))
    found = measured(short, "a.test_loss - b.test_loss < 0")
    assert (found.verdict, found.reason, found.n, found.n_planned) == ("undecided", "runs_missing", 3, 5)
    found = measured(losses({"b": B[:2], "a": A[:2]}), "a.test_loss - b.test_loss < 0")
    assert (found.verdict, found.reason) == ("undecided", "too_few_seeds")


def test_a_run_that_never_arrived_needs_more_than_its_budget() -> None:
    """The ratio is at least 30 / the time of the other: a bound that holds, and an open end."""
    slow = [record("none", seed, (2.3, 2.0, 1.9, 1.8)) for seed in range(4)]
    times = (10, 10, 20, 10)
    fast = [
        record("batch", s, (2.3, 0.5, 0.4, 0.3) if t == 10 else (2.3, 1.5, 0.4, 0.3))
        for s, t in enumerate(times)
    ]
    study = results(cell("none", slow), cell("batch", fast), targets=(Target("val_loss", 0.9),))
    found = measured(study, "none.steps_to_target / batch.steps_to_target > 1")
    logs = np.log(30 / np.array(times))
    errors = [10 / math.sqrt(12) / 30, 10 / math.sqrt(12) / (sum(times) / len(times))]
    spread = max(logs.std(ddof=1), math.hypot(*errors))
    assert found.low == pytest.approx(math.exp(logs.mean() - stats.t.ppf(0.975, 3) * spread / 2))
    assert (found.high, found.value, found.censored, found.n) == (None, None, 4, 4)
    assert found.verdict == ("confirmed" if found.low and found.low > 1 else "undecided")
    assert values_of(study, parse_expression("none.steps_to_target > 5").quantities[0]).bounds[0] == (
        30,
        math.inf,
    )
    assert measured(study, "none.steps_to_target > 20").verdict == "confirmed"
    assert measured(study, "none.steps_to_target < 20").verdict == "refuted"
    assert measured(study, "none.steps_to_target < 90").reason == "cut"


def trained(counts: Mapping[str, int], n: int) -> StudyResults:
    """So many of n seeds train."""
    outcomes = {True: "finished", False: "stuck_at_chance"}
    return results(
        *(
            cell(name, [record(name, seed, outcome=outcomes[seed < k]) for seed in range(n)])  # type: ignore[arg-type]
            for name, k in counts.items()
        )
    )


@pytest.mark.parametrize(("k", "n"), [(5, 5), (0, 5), (3, 8), (40, 41)])
def test_a_share_of_seeds_against_scipy(k: int, n: int) -> None:
    found = measured(trained({"a": k}, n), "a.trained > 0.5")
    oracle = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    assert (found.low, found.high, found.value) == pytest.approx((oracle.low, oracle.high, k / n))
    assert found.method == "exact"


@pytest.mark.parametrize(("k", "m", "n"), [(5, 0, 5), (4, 0, 5), (3, 0, 5), (8, 2, 8), (3, 0, 3)])
def test_a_difference_of_shares_needs_fishers_test_too(k: int, m: int, n: int) -> None:
    found = measured(trained({"b": m, "a": k}, n), "a.trained - b.trained > 0")
    p = stats.fisher_exact([[k, n - k], [m, n - m]]).pvalue
    assert (found.verdict == "confirmed") == (p <= 0.05)


def test_newcombes_interval() -> None:
    """56 of 70 against 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, table II, example a, method 10)."""
    study = results(
        *(
            cell(
                name, [record(name, s, outcome="finished" if s < k else "stuck_at_chance") for s in range(n)]
            )
            for name, k, n in (("b", 48, 80), ("a", 56, 70))
        )
    )
    assert share_interval([1, -1], [(56, 70), (48, 80)], 0.05) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert measured(study, "a.trained - b.trained > 0").n == 70


def test_ranges_and_their_edges() -> None:
    """none trains from 0.1 to 1, batch from 0.01 to 10 (cut at both ends): an edge lies between two values."""
    study = swept({"none": ["---", "+++", "+++", "---"], "batch": ["+++", "+++", "+++", "+++"]})
    none, batch = (
        values_of(study, parse_expression(f"{name}.usable(optimizer.lr) > 0").quantities[0]).bounds[0]
        for name in ("none", "batch")
    )
    assert (none, batch) == (pytest.approx((1.0, 3.0)), (pytest.approx(3.0), math.inf))
    upper = measured(study, "batch.usable_high(optimizer.lr) / none.usable_high(optimizer.lr) > 1")
    step = math.log(10) / math.sqrt(12) * math.sqrt(2)  # each edge is known to a decade
    assert upper.low == pytest.approx(math.exp(-stats.t.ppf(0.975, 2) * step / math.sqrt(3)))
    assert (upper.high, upper.censored, upper.reason) == (None, 3, "cut")
    low = measured(study, "none.usable_low(optimizer.lr) > 0.001")
    assert low.values == ((0, 0.01, 0.1), (1, 0.01, 0.1), (2, 0.01, 0.1))


def test_a_sweep_compares_at_the_best_settings_on_other_seeds() -> None:
    def height(variant: str, place: int, seed: int) -> float:
        return (0.9 if variant == "batch" else 0.8) + 0.01 * seed - 0.1 * abs(place - 1)

    plus = ["+" * 6] * 3
    study = swept({"none": plus, "batch": plus}, height, values=(0.01, 0.1, 1.0))
    found = measured(study, "batch.test_accuracy - none.test_accuracy > 0")
    assert [seed for seed, _, _ in found.values] == [2, 3, 4, 5]  # the first third chose
    assert found.value == pytest.approx(0.1)
    at_one = measured(study, "batch.test_accuracy[optimizer.lr=1] - none.test_accuracy[optimizer.lr=1e0] > 0")
    assert (at_one.n, at_one.value) == (6, pytest.approx(0.1))


def test_an_index_and_a_row_of_the_inside() -> None:
    def rows(cell_: object, run: RunRecord) -> tuple[ProbeRow, ...]:
        del cell_
        return (
            ProbeRow(0, "one", "depth", "", 1.0),
            ProbeRow(0, "one", "hidden", "", 1.0),
            ProbeRow(0, "one", "pre_std", "", 0.5 + run.seed / 10),
            ProbeRow(9, "one", "pre_std", "", 0.7 + run.seed / 10),
        )

    runs = [record("a", seed, inside={"drift": 0.1 * (seed + 1)}) for seed in range(3)]
    study = replace(results(cell("a", runs)), probes=rows)
    assert measured(study, "a.drift < 1").value == pytest.approx(0.2)
    assert measured(study, "a.probe(pre_std, 1, 0) > 0").value == pytest.approx(0.6)
    assert measured(study, "a.probe(pre_std, one, last) > 0").value == pytest.approx(0.8)
    lost = measured(study, "a.probe(pre_std, 1, 5) > 0")
    assert (lost.verdict, lost.lost) == ("undecided", {"without_a_number": 3})
    with pytest.raises(UnknownNameError, match="pre_std"):
        measured(study, "a.probe(pre_stdd, 1, 0) > 0")


def test_a_ratio_needs_positive_numbers() -> None:
    runs = {
        name: [record(name, s, inside={"dead_share": float(s and name == "a")}) for s in range(3)]
        for name in "ab"
    }
    study = results(*(cell(name, run) for name, run in runs.items()))
    assert measured(study, "a.dead_share / b.dead_share > 1").reason == "not_positive"


def test_looks_share_the_five_percent() -> None:
    fixed = losses({"b": B, "a": A})
    looked = replace(fixed, looks=(5, 10))
    narrow, wide = (measured(study, "a.test_loss - b.test_loss < 0") for study in (fixed, looked))
    share = (5 / 10) ** 2
    half = stats.t.ppf(1 - 0.05 * share / 2, 4) * np.subtract(A, B).std(ddof=1) / math.sqrt(5)
    assert wide.high == pytest.approx(np.subtract(A, B).mean() + half)
    assert wide.high > (narrow.high or math.inf)


@pytest.mark.parametrize(
    ("verdicts", "whole", "named"),
    [
        (("confirmed", "confirmed"), "confirmed", ()),
        (("refuted", "refuted"), "refuted", ()),
        (("confirmed", "refuted"), "depends", ("1",)),
        (("not_confirmed", "confirmed", "undecided"), "depends", ("0", "2")),
        (("confirmed", "undecided"), "undecided", ()),
        (("refuted", "undecided"), "undecided", ()),
        (("refuted", "not_confirmed"), "not_confirmed", ()),
    ],
)
def test_parts_together(verdicts: tuple[str, ...], whole: str, named: tuple[str, ...]) -> None:
    one = measured(losses({"a": A}), "a.test_loss < 1")
    parts = [Part(str(i), replace(one, verdict=verdict)) for i, verdict in enumerate(verdicts)]  # type: ignore[arg-type]
    assert together(parts) == (whole, named)


@pytest.mark.parametrize(("n", "scatter"), [*product((3, 5, 10), (0.1, 1.0))])
def test_false_confirmations_are_as_rare_as_promised(n: int, scatter: float) -> None:
    """A against A: a one-sided claim is confirmed falsely in 2.5 % (tests/benchmarks/false_confirmations.py)."""
    generator, studies = np.random.default_rng(0), 400
    expression = parse_expression("a.test_loss - b.test_loss < 0")
    confirmed = 0
    for _ in range(studies):
        values = 2 + scatter * generator.normal(size=(2, n))
        study = losses({"b": np.exp(values[0] / 10).tolist(), "a": np.exp(values[1] / 10).tolist()})
        confirmed += measure(study, expression).verdict == "confirmed"
    assert confirmed / studies < 0.025 + 3 * math.sqrt(0.025 * 0.975 / studies)
