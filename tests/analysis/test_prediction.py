"""Prediction intervals against closed forms, scipy and simulated papers."""

import math

import numpy as np
import pytest
from prediction_coverage import CASES, coverage
from scipy import stats

from bnbench.analysis.methods.prediction import Prediction, predicted_sum, two_sided

A = [0.971, 0.968, 0.975, 0.970, 0.966]
B = [0.912, 0.931, 0.905, 0.899, 0.940]


@pytest.mark.parametrize("runs", [1, 5, math.inf])
def test_a_mean_of_k_runs_against_the_closed_form(runs: float) -> None:
    prediction = predicted_sum([A], [1], runs)
    assert prediction is not None
    half = stats.t.ppf(0.975, 4) * np.std(A, ddof=1) * math.sqrt(1 / runs + 1 / 5)
    assert prediction.interval() == pytest.approx((np.mean(A) - half, np.mean(A) + half), rel=1e-12)


def test_two_runs_published_apart_have_the_sum_of_both_variances_and_welchs_degrees_of_freedom() -> None:
    prediction = predicted_sum([A, B], [1, -1], 1)
    assert prediction is not None
    a, b = np.var(A, ddof=1), np.var(B, ddof=1)
    assert prediction.error == pytest.approx(math.sqrt((a + b) * (1 + 1 / 5)), rel=1e-12)
    assert prediction.freedom == pytest.approx((a + b) ** 2 / (a**2 / 4 + b**2 / 4), rel=1e-12)
    paired = np.std(np.subtract(A, B), ddof=1) * math.sqrt(1 + 1 / 5)
    assert abs(prediction.error - paired) > 0.1 * paired  # not that of the paired difference


def test_a_number_without_scatter_gives_welchs_interval_as_scipy_has_it() -> None:
    prediction = predicted_sum([A, B[:4]], [1, -1], math.inf)
    assert prediction is not None
    test = stats.ttest_ind(A, B[:4], equal_var=False)
    assert prediction.interval() == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-10)
    assert prediction.p(0, 0) == pytest.approx(test.pvalue, rel=1e-9)


def test_rounding_is_the_least_scatter() -> None:
    floor = 0.01 / math.sqrt(12)
    prediction = predicted_sum([[0.5, 0.5, 0.5]], [1], 1, [floor])
    assert prediction is not None
    assert prediction.error == pytest.approx(floor * math.sqrt(1 + 1 / 3), rel=1e-12)


def test_the_p_of_a_rounded_number_is_that_of_its_nearest_value() -> None:
    prediction = Prediction(0.0, 1.0, 10)
    assert prediction.p(-1, 2) == 1.0
    assert prediction.p(2.0, 3.0) == pytest.approx(2 * stats.t.sf(2.0, 10), rel=1e-9)
    assert two_sided(0.1, 0.0, 3) == 0.0


def test_too_few_values_predict_nothing() -> None:
    assert predicted_sum([[1.0]], [1], 1) is None


@pytest.mark.parametrize("case", CASES[:6], ids=lambda case: case.name)
def test_intervals_hold_95_percent_of_simulated_papers(case) -> None:
    """2,000 papers: the standard error is 0.5 points. Equal spreads at n = 3 keep somewhat more than 95 %."""
    assert 0.933 <= coverage(case, 5, trials=2000) <= 0.972
