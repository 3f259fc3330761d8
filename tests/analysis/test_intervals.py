"""The mathematics of the verdict against published numbers, other programs and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bnbench.analysis.methods.intervals import equivalence_p, holm, paired_interval, paired_p
from bnbench.analysis.methods.power import seeds_needed
from bnbench.analysis.methods.resampling import bootstrap_t, sign_flip_p
from bnbench.analysis.rates import fisher_p, mcnemar_p, wilson

# Darwin's maize, height differences in eighths of an inch (Fisher 1935, The Design of Experiments, section 21)
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
SLEEP = [-1.2, -2.4, -1.3, -1.3, 0.0, -1.0, -1.8, -0.8, -4.6, -1.4]  # R: datasets::sleep, drug 1 - drug 2


def test_against_fisher_sign_flips_of_the_maize_data() -> None:
    # "in just 863 cases out of 32,768 the total deviation will have a positive value as great as observed"
    assert sign_flip_p(MAIZE) == 2 * 863 / 32768


def test_against_r_paired_t_test() -> None:
    assert paired_p(SLEEP) == pytest.approx(0.00283289, abs=5e-9)  # R: t.test(..., paired = TRUE)$p.value
    assert paired_p(MAIZE) == pytest.approx(0.0497, abs=5e-5)  # R: t.test(MAIZE)$p.value


@given(st.lists(st.integers(-8, 8), min_size=6, max_size=9))
def test_sign_flips_against_brute_force(values: list[int]) -> None:
    patterns = itertools.product((1, -1), repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in patterns]
    assert sign_flip_p([float(v) for v in values]) == sum(s >= abs(sum(values)) for s in sums) / len(sums)


def test_sign_flips_by_drawing_agree_with_all_patterns() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 21)
    exact = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=99_999, rng=np.random.default_rng(1)
    )
    assert sign_flip_p(values.tolist()) == pytest.approx(exact.pvalue, abs=0.01)
    assert sign_flip_p([1.0] * 20) == 2 / 2**20


def test_sign_flips_with_fewer_than_six_say_nothing() -> None:
    assert sign_flip_p([1.0] * 5) is None
    assert sign_flip_p([1.0] * 6) == 0.03125
    assert sign_flip_p([0.0] * 6) == 1


def test_against_r_holm() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "needed"), [(1.0, 10), (0.5, 34), (0.2, 199), (5.0, 3)])
def test_against_r_power(effect: float, needed: int) -> None:
    # R: power.t.test(delta = effect, sd = 1, power = 0.8, type = "paired")$n: 9.94, 33.37, 198.15; 5: below 3
    assert seeds_needed(effect, 1.0) == needed


def test_seeds_needed_where_nothing_can_be_said() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.001, 1.0) is None  # more than ten thousand
    assert seeds_needed(1.0, 0.0) == 3


def test_equivalence_is_the_90_percent_interval_inside_the_margin() -> None:
    low, high = paired_interval(SLEEP, 0.90)
    assert low is not None
    assert high is not None
    assert equivalence_p(SLEEP, -low + 1e-6) == pytest.approx(0.05, abs=1e-5)
    assert equivalence_p(SLEEP, -low - 0.01) > 0.05
    # two one-sided tests of scipy
    sides = [
        stats.ttest_1samp(SLEEP, -2.5, alternative="greater").pvalue,
        stats.ttest_1samp(SLEEP, 2.5, alternative="less").pvalue,
    ]
    assert equivalence_p(SLEEP, 2.5) == pytest.approx(max(sides))


def test_equivalence_without_scatter() -> None:
    assert equivalence_p([0.1] * 3, 0.2) == 0
    assert equivalence_p([0.3] * 3, 0.2) == 1
    assert equivalence_p([0.1, 0.1], 0.2) is None


def test_bootstrap_against_a_plain_loop() -> None:
    values = np.random.default_rng(3).gamma(2, size=20)
    low, high, p = bootstrap_t((values - 1.0).tolist())
    random, ratios = np.random.default_rng(7), []
    centred = values - values.mean()
    for _ in range(20_000):
        draw = random.choice(centred, 20)
        ratios.append(abs(draw.mean()) / (draw.std(ddof=1) / math.sqrt(20)))
    error = values.std(ddof=1) / math.sqrt(20)
    half = np.quantile(ratios, 0.95) * error
    assert (low, high) == pytest.approx(
        (values.mean() - 1 - half, values.mean() - 1 + half), abs=0.015 * half
    )
    assert p == pytest.approx(np.mean(np.array(ratios) >= (values.mean() - 1) / error), abs=0.01)


@pytest.mark.parametrize("shift", np.linspace(0.2, 0.8, 13).tolist())
def test_the_p_of_the_bootstrap_belongs_to_its_interval(shift: float) -> None:
    values = np.random.default_rng(4).normal(shift, 1, 20).tolist()
    low, high, p = bootstrap_t(values)
    assert (p <= 0.05) == (low > 0 or high < 0)
    mirrored = bootstrap_t([-value for value in values])
    assert mirrored == pytest.approx((-high, -low, p))


def test_a_bootstrap_without_a_resample_as_large_takes_the_p_of_t() -> None:
    """Its own floor is 1 / 10,000, with which Holm over 500 comparisons decides nothing."""
    values = np.random.default_rng(5).normal(50, 1, 20).tolist()
    assert bootstrap_t(values)[2] == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6)
    assert bootstrap_t(values)[2] < 1e-20


def test_bootstrap_without_scatter_gives_way() -> None:
    assert bootstrap_t([1.0] * 20) is None
    assert bootstrap_t([0.0] * 19 + [1.0]) is None  # a third of the resamples do not scatter


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_against_newcombe_wilson(k: int, n: int, low: float, high: float) -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_of_nothing() -> None:
    assert wilson(0, 0) == (None, None)


def test_mcnemar_by_hand_and_against_r() -> None:
    assert mcnemar_p(0, 6) == 2 / 64
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(3, 3) == 1
    assert mcnemar_p(10, 3) == pytest.approx(0.09228516)  # R: binom.test(3, 13)$p.value


def test_against_r_fisher_tea() -> None:
    # the lady tasting tea: R: fisher.test(matrix(c(3, 1, 1, 3), 2))$p.value
    assert fisher_p(3, 4, 1, 4) == pytest.approx(0.4857143)
    for table in ((0, 5, 5, 5), (2, 10, 8, 9), (1, 3, 2, 8)):
        k, n, j, m = table
        assert fisher_p(*table) == pytest.approx(stats.fisher_exact([[k, n - k], [j, m - j]]).pvalue)


def test_the_draws_of_many_pairs_are_those_of_one_table() -> None:
    """Resamples are drawn and judged in parts that fit the cache; the oracle draws and judges all at once."""
    import numpy as np

    from bnbench.analysis.methods import resampling

    centred = np.random.default_rng(3).standard_normal(137)
    centred -= centred.mean()
    draws = centred[
        np.random.default_rng(resampling._SEED).integers(0, 137, size=(resampling.RESAMPLES, 137))
    ]
    expected = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(137))
    assert np.array_equal(resampling._studentised(centred, 0.0), expected)
    assert np.array_equal(resampling._studentised(centred, 0.0), expected)  # from the table that was kept
