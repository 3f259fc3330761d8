"""Paired differences against published numbers, and the rules of the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import correlation, paired_interval, welch_interval
from bnbench.analysis.methods.power import detectable_difference
from bnbench.analysis.paired import compare, judge
from bnbench.analysis.pairs import Pairs, Spread
from bnbench.results import Cell
from bnbench.study.records import RunRecord

# Student's sleep data (R: datasets::sleep)
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def cell(
    variant: str, values: Mapping[int, float | None], seeds: int = 5, metric: str = "test_accuracy"
) -> Cell:
    """A cell whose runs ended at these values; None: the run crashed."""
    runs = tuple(
        RunRecord(variant, {}, seed, "c", variant, "crashed", error="boom")
        if value is None
        else RunRecord(variant, {}, seed, "c", variant, "finished", final={metric: value})
        for seed, value in values.items()
    )
    return Cell(variant, {}, "c", tuple(range(seeds)), runs)


def difference(
    ours: Mapping[int, float | None], theirs: Mapping[int, float | None], metric: str = "test_accuracy"
) -> Difference:
    return compare(cell("batch", ours, metric=metric), cell("none", theirs, metric=metric), metric, "final")


def test_against_r_paired_t_interval_of_the_sleep_data() -> None:
    # R: t.test(sleep$extra[1:10], sleep$extra[11:20], paired = TRUE) -> -2.4598858 -0.7001142, mean -1.58
    interval = paired_interval([a - b for a, b in zip(DRUG_1, DRUG_2, strict=True)])
    assert interval == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_against_r_welch_interval_of_the_sleep_data() -> None:
    # R: t.test(extra ~ group, data = sleep) -> df = 17.776, -3.3654832 0.2054832
    assert welch_interval(DRUG_1, DRUG_2) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_against_r_correlation_of_the_sleep_data() -> None:
    assert correlation(DRUG_1, DRUG_2) == pytest.approx(0.7951702, abs=5e-8)  # R: cor()


def test_by_hand_three_seeds() -> None:
    # differences 0.01, 0.02, 0.03: mean 0.02, std 0.01, t(0.975; 2) = 4.30265 (tables), half = 0.024842
    result = difference({0: 0.91, 1: 0.92, 2: 0.93}, {0: 0.90, 1: 0.90, 2: 0.90})
    assert result.difference == pytest.approx(0.02)
    assert (result.ci_low, result.ci_high) == pytest.approx((0.02 - 0.024842, 0.02 + 0.024842), abs=1e-6)
    assert result.values == tuple(pytest.approx(pair) for pair in ((0, 0.01), (1, 0.02), (2, 0.03)))
    assert result.verdict == "undecided"
    assert result.rho is None  # the baseline does not vary


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_against_scipy(n: int) -> None:
    draw = np.random.default_rng(n)
    first, second = draw.normal(1, 2, n).tolist(), draw.normal(0, 1, n).tolist()
    paired = stats.ttest_rel(first, second).confidence_interval()
    welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert paired_interval([a - b for a, b in zip(first, second, strict=True)]) == pytest.approx(
        tuple(paired)
    )
    assert welch_interval(first, second) == pytest.approx(tuple(welch))


@pytest.mark.parametrize(("n", "published"), [(3, 3.27), (5, 1.69), (10, 1.00), (20, 0.66), (30, 0.54)])
def test_detectable_difference_in_standard_deviations(n: int, published: float) -> None:
    unit = np.arange(n) - (n - 1) / 2
    unit = (unit / unit.std(ddof=1)).tolist()  # differences with a standard deviation of 1
    found = detectable_difference(unit)
    assert found == pytest.approx(published, abs=0.015)
    # an independent way to say it: a paired t test of that effect rejects in 80 of 100 cases
    limit = stats.t.ppf(0.975, n - 1)
    power = stats.nct.sf(limit, n - 1, found * math.sqrt(n)) + stats.nct.cdf(
        -limit, n - 1, found * math.sqrt(n)
    )
    assert power == pytest.approx(0.80, abs=1e-4)


def test_detectable_difference_has_the_unit_of_the_differences() -> None:
    values = [0.01, 0.03, 0.02]
    assert detectable_difference([10 * v for v in values]) == pytest.approx(
        10 * detectable_difference(values)
    )


def test_one_seed_gives_a_difference_and_no_interval() -> None:
    result = difference({0: 0.95}, {0: 0.90})
    assert result.difference == pytest.approx(0.05)
    assert (result.ci_low, result.ci_high, result.welch_low, result.rho, result.detectable) == (None,) * 5
    assert (result.verdict, result.n, result.n_planned) == ("too_few_seeds", 1, 5)


def test_two_seeds_give_an_interval_and_no_verdict() -> None:
    # differences 0.05, 0.05 + 1e-4: an interval that would exclude 0
    result = difference({0: 0.95, 1: 0.9501}, {0: 0.90, 1: 0.90})
    assert result.ci_low is not None
    assert result.ci_low > 0
    assert (result.verdict, result.detectable) == ("too_few_seeds", None)


def test_no_pair_at_all() -> None:
    result = difference({0: None, 1: None}, {0: 0.9, 1: 0.9})
    assert (result.difference, result.ci_low, result.n, result.n_planned) == (None, None, 0, 5)
    assert result.verdict == "too_few_seeds"


@pytest.mark.parametrize(("n", "verdict"), [(3, "undecided"), (5, "undecided"), (6, "better")])
def test_equal_differences_are_a_verdict_from_six_seeds_on(n: int, verdict: str) -> None:
    """Sign flips: six of one sign have p = 2 / 2^6 = 0.03, five 0.06; nothing else is known of the scatter."""
    ours, theirs = dict.fromkeys(range(n), 0.75), dict.fromkeys(range(n), 0.5)
    metric = "test_accuracy"
    result = compare(cell("a", ours, n), cell("b", theirs, n), metric, "final")
    assert result.verdict == verdict
    few = n < 6
    assert (result.difference, result.ci_low, result.ci_high) == (0.25, *([None] * 2 if few else [0.25] * 2))
    assert result.p == (None if few else 0.0)


def test_identical_runs_show_no_difference() -> None:
    same = {s: 0.9 + s / 100 for s in range(5)}
    result = difference(same, same)
    assert (result.difference, result.ci_low, result.p, result.rho) == (0, None, None, pytest.approx(1))
    assert result.verdict == "undecided"


def test_rounding_is_no_effect() -> None:
    theirs = {s: 0.5 + s / 100 for s in range(5)}
    shifts = (1e-8, 2e-8, 1e-8, 2e-8, 1e-8)
    result = difference({s: theirs[s] - shift for s, shift in enumerate(shifts)}, theirs, "test_loss")
    assert result.ci_high is None
    assert result.verdict == "undecided"


@pytest.mark.parametrize(
    ("metric", "sign", "verdict"),
    [
        ("test_accuracy", +1, "better"),
        ("test_accuracy", -1, "worse"),
        ("test_loss", +1, "worse"),
        ("test_loss", -1, "better"),
    ],
)
def test_direction_belongs_to_the_metric(metric: str, sign: int, verdict: str) -> None:
    theirs = dict.fromkeys(range(5), 0.5)
    ours = {s: 0.5 + sign * (0.1 + 0.001 * s) for s in range(5)}
    assert difference(ours, theirs, metric).verdict == verdict


@pytest.mark.parametrize("lost", [math.nan, math.inf, None])
def test_a_pair_that_is_lost_is_counted(lost: float | None) -> None:
    ours: dict[int, float | None] = {0: 0.91, 1: lost, 2: 0.93, 3: 0.92}  # seed 4 is missing
    result = difference(ours, dict.fromkeys(range(5), 0.9))
    assert (result.n, result.n_planned) == (3, 5)
    assert [seed for seed, _ in result.values] == [0, 2, 3]
    assert result.lost == {"crashed" if lost is None else "without_a_number": 1}
    assert result.verdict == "pairs_lost"


def test_an_interval_that_touches_zero_excludes_nothing() -> None:
    pairs = Pairs((0, 1, 2), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 3)
    assert judge(pairs, "test_accuracy", (0.0, 0.2)) == "undecided"
    assert judge(pairs, "test_accuracy", (1e-9, 0.2)) == "better"


def test_spread_counts_what_is_not_finite() -> None:
    spread = Spread.of([1.0, math.nan, 3.0, math.inf])
    assert (spread.mean, spread.std, spread.n, spread.num_nonfinite) == (
        2.0,
        pytest.approx(math.sqrt(2)),
        2,
        2,
    )
    assert spread.values == (1.0, 3.0)


def test_spread_of_one_and_of_none() -> None:
    assert Spread.of([0.5]) == Spread(0.5, None, 1, (0.5,), 0)
    assert Spread.of([math.nan]) == Spread(None, None, 0, (), 1)


@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=1, max_size=8))
def test_swapping_the_sides_turns_the_answer_round(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = dict(enumerate(a for a, _ in pairs)), dict(enumerate(b for _, b in pairs))
    here, there = difference(ours, theirs), difference(theirs, ours)
    opposite = {"better": "worse", "worse": "better"}
    assert there.verdict == opposite.get(here.verdict, here.verdict)
    assert there.difference == pytest.approx(-here.difference, abs=1e-12)
    if here.ci_low is not None:
        assert here.ci_low <= here.difference <= here.ci_high
        assert there.ci_high == pytest.approx(-here.ci_low, abs=1e-12)


@pytest.mark.parametrize(("metric", "share"), [("test_accuracy", 0.7), ("test_loss", 0.3)])
def test_better_in_so_many_seeds_counts_a_tie_as_half(metric: str, share: float) -> None:
    # three above, one equal, one below; Wilson's interval of 3.5 and 1.5 of 5 by the formula
    result = difference(dict(enumerate([0.6, 0.7, 0.8, 0.5, 0.4])), dict.fromkeys(range(5), 0.5), metric)
    assert result.better_share == pytest.approx(share)
    z2 = 1.959963985**2
    half = math.sqrt(z2) / (1 + z2 / 5) * math.sqrt(share * (1 - share) / 5 + z2 / 100)
    middle = (share + z2 / 10) / (1 + z2 / 5)
    assert (result.better_low, result.better_high) == pytest.approx((middle - half, middle + half))
