"""No scatter is believed below the rounding of the metric. Oracles: scipy, and the uniform distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bnbench.analysis.difference import Difference
from bnbench.analysis.family import corrected
from bnbench.analysis.methods.intervals import (
    equivalence_p,
    paired_interval,
    paired_p,
    scatter,
    welch_interval,
)
from bnbench.analysis.methods.power import detectable_difference, scatter_factors, seeds_needed
from bnbench.analysis.methods.resampling import bootstrap_t
from bnbench.analysis.paired import compare
from bnbench.analysis.pairs import grain_of
from bnbench.analysis.summary import summarize
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin
from bnbench.study.records import RunRecord

COUNTS = (40, 80, 240)  # 360 samples
CLASSES = ("cat", "dog", "emu")


def cell(name: str, values: Sequence[float], metric: str = "test_accuracy", **more: object) -> Cell:
    facts = {
        "class_counts": {"test": COUNTS, "train": (900, 900, 900), "probe": (20, 20, 10)},
        "class_names": CLASSES,
        **more,
    }
    runs = tuple(
        RunRecord(name, {}, seed, name, name, "finished", final={metric: value}, **facts)  # type: ignore[arg-type]
        for seed, value in enumerate(values)
    )
    return Cell(name, {}, name, tuple(range(len(values))), runs)


def against(
    deltas: Sequence[float], metric: str = "test_accuracy", margin: float | None = None, **more: object
) -> Difference:
    ours = cell("a", [0.5 + delta for delta in deltas], metric, **more)
    theirs = cell("b", [0.5] * len(deltas), metric, **more)
    return compare(ours, theirs, metric, "final", None if margin is None else Margin(metric, margin))


def test_the_floor_is_the_rounding_error_of_a_difference_of_two_counts() -> None:
    """Two shares, each rounded to 1/N: the difference of their errors has the standard deviation 1/(N √6)."""
    random = np.random.default_rng(1)
    errors = random.uniform(-0.5, 0.5, (2, 400_000)) / 360
    assert scatter([0.0] * 3, 1 / 360) == pytest.approx((errors[0] - errors[1]).std(), rel=0.01)
    assert scatter([0.0, 0.1, 0.2], 1 / 360) == pytest.approx(0.1)


def test_three_equal_differences_of_one_sample_are_no_verdict() -> None:
    found = against([1 / 360] * 3)
    half = stats.t.ppf(0.975, 2) * (1 / 360) / math.sqrt(6) / math.sqrt(3)
    assert (found.ci_low, found.ci_high) == pytest.approx((1 / 360 - half, 1 / 360 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(18), 2))
    assert (found.verdict, found.p > 0.05) == ("undecided", True)
    assert against([1 / 360] * 3, class_counts={}, num_samples={"test": 360}).p == pytest.approx(found.p)


def test_differences_of_many_samples_are_one() -> None:
    assert against([40 / 360] * 3).verdict == "better"
    assert against([-40 / 360] * 3).verdict == "worse"


def test_it_is_in_every_number_alike() -> None:
    deltas, grain = [0.01, 0.01, 0.0100001, 0.01], 0.05
    floor = grain / math.sqrt(6)
    unit = (np.array([-1.5, -0.5, 0.5, 1.5]) / np.std([-1.5, -0.5, 0.5, 1.5], ddof=1)).tolist()
    like = [0.01000002 + floor * value for value in unit]  # the same mean, the floor's scatter
    assert paired_interval(deltas, grain=grain) == pytest.approx(paired_interval(like), rel=1e-4)
    assert paired_p(deltas, grain) == pytest.approx(stats.ttest_1samp(like, 0).pvalue, rel=1e-4)
    assert equivalence_p(deltas, 0.04, grain) == pytest.approx(equivalence_p(like, 0.04), rel=1e-4)
    assert detectable_difference(deltas, grain=grain) == pytest.approx(detectable_difference(like))
    assert bootstrap_t([*deltas * 5], grain) is None  # then t, which knows the floor
    side = [0.5] * 4
    wide = stats.t.ppf(0.975, 6) * math.sqrt(2 * grain**2 / 12 / 4)
    assert welch_interval(side, side, grain) == pytest.approx((-wide, wide))


def test_a_bootstrap_of_scattered_shares_knows_the_floor_in_its_resamples() -> None:
    """19 equal differences and one: a resample without scatter is no longer infinitely significant."""
    deltas = [0.0] * 19 + [4 / 360]
    assert bootstrap_t(deltas) is None
    assert against(deltas).verdict == "undecided"


def test_the_same_within_less_than_a_sample_is_not_shown() -> None:
    assert against([0.0] * 3, margin=0.001).verdict == "undecided"
    assert against([0.0] * 3, margin=0.01).verdict == "same"  # 3.6 samples


def test_a_margin_below_one_sample_is_a_caution() -> None:
    cells = (cell("b", [0.5] * 3), cell("a", [0.5] * 3))
    small = summarize(StudyResults("demo", "b", (), cells, margin=Margin("test_accuracy", 0.001)))
    assert any("the margin 0.001 of test_accuracy is smaller than" in line for line in small.cautions)
    large = summarize(StudyResults("demo", "b", (), cells, margin=Margin("test_accuracy", 0.003)))
    assert not large.cautions


@pytest.mark.parametrize(
    ("metric", "grain"),
    [
        ("test_accuracy", 1 / 360),
        ("test_balanced_accuracy", 1 / (3 * 40)),
        ("test_recall:dog", 1 / 80),
        ("test_macro_f1", (2 / 41 + 1 / 161) / 3),
        ("train_accuracy", 1 / 50),  # measured on the probe, not on all that is trained on
        ("test_loss", None),
        ("val_accuracy", None),  # no run says how many
    ],
)
def test_grains(metric: str, grain: float | None) -> None:
    found = grain_of(cell("a", [0.5], metric).records, metric)
    assert found == (None if grain is None else pytest.approx(grain))


@pytest.mark.parametrize("metric", ["test_balanced_accuracy", "test_recall:cat", "test_macro_f1"])
def test_the_floor_is_that_of_the_metric(metric: str) -> None:
    """One sample of a class of 40 is not 1/360: three equal differences of that size are no verdict."""
    grain = grain_of(cell("a", [0.5], metric).records, metric)
    assert grain is not None
    assert against([grain] * 3, metric).verdict == "undecided"


@pytest.mark.parametrize("n", [3, 4, 5])
def test_a_loss_whose_differences_are_equal_has_no_interval(n: int) -> None:
    found = against([0.1] * n, "test_loss")
    assert (found.ci_low, found.p, found.verdict) == (None, None, "undecided")
    assert against([0.1] * n, "test_loss", margin=0.2).verdict == "undecided"
    near = against([0.1 + 1e-7 * i for i in range(n)], "test_loss")
    assert near.verdict == "undecided"


def test_tiny_and_huge_numbers_raise_nothing() -> None:
    """Far outside float32: what no run can measure, but a caller can pass."""
    for scale in (1e300, 1e308, 1e-200, 1e-310):
        values = [scale, -scale, scale / 3, scale / 7]
        paired_interval(values), welch_interval(values, values[::-1]), paired_p(values)
        found = compare(
            cell("a", values, "test_loss"), cell("b", values[::-1], "test_loss"), "test_loss", "final"
        )
        assert found.verdict == ("pairs_lost" if scale > 1 else "undecided")


def test_against_chi_square_how_well_seeds_know_their_scatter() -> None:
    for n in (3, 5, 10, 20):
        exact = [math.sqrt((n - 1) / stats.chi2.ppf(p, n - 1)) for p in (0.975, 0.025)]
        assert scatter_factors(n) == pytest.approx(tuple(exact))


def test_seeds_for_the_margin_use_no_effect_that_was_seen() -> None:
    deltas = [0.01, -0.01, 0.0, 0.01, -0.01]
    shifted = [delta + 0.2 for delta in deltas]
    wanted = seeds_needed(0.02, 0.01)
    assert float(np.std(deltas, ddof=1)) == pytest.approx(0.01)
    assert against(deltas, margin=0.02).seeds_for_margin == wanted == 5
    power = [stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, 2 * math.sqrt(n)) for n in (4, 5)]
    assert power[0] < 0.8 < power[1]
    assert against(shifted, margin=0.02).seeds_for_margin == wanted


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-6, 6), min_size=3, max_size=24), st.booleans())
def test_the_p_and_the_interval_agree(counts: list[int], coarse: bool) -> None:
    """Whatever the method, and whether the floor is active or not."""
    found = against([count / 360 for count in counts], class_counts={} if not coarse else {"test": COUNTS})
    if found.p is None:
        assert (found.ci_low, found.verdict) == (None, "undecided")
        return
    assert (found.p <= 0.05) == (found.ci_low > 0 or found.ci_high < 0)
    assert (found.verdict in ("better", "worse")) == (found.p <= 0.05)


def test_twenty_variants_that_are_all_the_baseline_at_three_seeds() -> None:
    """Counts on 360 samples with a scatter of 0.3 pp: without the floor 30 % of such studies had a false verdict."""
    random = np.random.default_rng(5)
    false = 0
    for _ in range(60):
        shares = np.round(360 * np.clip(random.normal(0.97, 0.003, (21, 3)), 0, 1)) / 360
        cells = [cell(f"v{index}", row.tolist()) for index, row in enumerate(shares)]
        found = corrected(compare(ours, cells[0], "test_accuracy", "final") for ours in cells[1:])
        false += any(c.verdict in ("better", "worse") for c in found)
    assert false <= 3  # 60 at 5 % would have more than 3 in one case of 3; measured: 0


def test_against_a_plain_loop_each_resample_has_the_floor() -> None:
    counts = [0] * 14 + [1, 1, -1, 2, 1, -1]
    values, grain = np.array(counts) / 360, 1.4 / 360
    floor = grain / math.sqrt(6)
    assert values.std(ddof=1) > floor
    found = bootstrap_t(values.tolist(), grain)
    assert found is not None
    random, ratios = np.random.default_rng(7), []
    centred = values - values.mean()
    for _ in range(20_000):
        draw = random.choice(centred, 20)
        ratios.append(abs(draw.mean()) / (max(draw.std(ddof=1), floor) / math.sqrt(20)))
    half = np.quantile(ratios, 0.95) * values.std(ddof=1) / math.sqrt(20)
    assert found[1] - found[0] == pytest.approx(2 * half, rel=0.03)
    without = bootstrap_t(values.tolist())
    assert without is None or without[1] - without[0] > 1.05 * (found[1] - found[0])
