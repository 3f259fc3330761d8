"""An expression, measured on a study's results: its interval over the seeds, and its verdict.

It is paired by seed, as everywhere: a difference or a ratio is taken of the two numbers of each seed, then Student's t
gives the 95 % interval of the mean (from 20 seeds on a studentised bootstrap). A ratio is taken on the scale of its
logarithm. Numbers between bounds give an interval that holds for whatever they are. Shares of seeds that trained
have Clopper and Pearson's exact interval; the difference of two has Newcombe's, and Fisher's exact test must agree.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bnbench.analysis.measured import Measured, Method, Verdict
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS, mean, std, t_quantile
from bnbench.analysis.methods.resampling import MIN_BOOTSTRAP, bootstrap_t
from bnbench.analysis.methods.sequential import weight_of
from bnbench.analysis.pairs import ROUNDING
from bnbench.analysis.quantities import Bounds, Values, common_seeds, unit_of, values_of
from bnbench.analysis.shares import share_interval
from bnbench.analysis.twins import same_results
from bnbench.results import StudyResults
from bnbench.study.expressions import TRAINED, Expression


def measure(results: StudyResults, expression: Expression) -> Measured:
    """The expression on these results. Raises UnknownNameError where they do not have what it names.

    Its margin is its own, or the study's where that is one of the same metric.
    """
    values = [values_of(results, quantity) for quantity in expression.quantities]
    seeds = common_seeds(values)
    lost = {seed: reason for one in values for seed, reason in one.lost.items() if seed in seeds}
    pairs = {seed: _combined(expression, [one.bounds[seed] for one in values]) for seed in seeds
             if all(seed in one.bounds for one in values)}  # fmt: skip
    measured = replace(
        pending(expression, len(seeds)),
        n=len(pairs),
        reason="",
        margin=_margin(expression, results),
        values=tuple((seed, low, high) for seed, (low, high) in pairs.items()),
        lost=dict(Counter(lost.values())),
        censored=len({seed for one in values for seed in one.censored if seed in seeds}),
    )
    alpha = ALPHA * weight_of(len(pairs), results.looks)
    if all(quantity.name == TRAINED for quantity in expression.quantities):
        measured = _of_shares(measured, expression, values, alpha)
    else:
        measured = _of_numbers(measured, expression, values, alpha)
    return _judged(measured, expression, values)


def pending(expression: Expression, seeds: int) -> Measured:
    """The result of an expression before any run has ended. seeds: how many are planned."""
    return Measured(
        text=expression.text,
        unit=unit_of(expression),
        difference=len(expression.terms) > 1 and not expression.ratio,
        sign=expression.sign,
        limit=expression.value,
        ratio=expression.ratio,
        n=0,
        n_planned=seeds,
        reason="runs_missing",
    )


def _margin(expression: Expression, results: StudyResults) -> float | None:
    margin = results.margin
    if expression.within is not None or margin is None or expression.ratio:
        return expression.within
    return margin.value if all(q.name == margin.metric for q in expression.quantities) else None


def _combined(expression: Expression, bounds: Sequence[Bounds]) -> Bounds:
    """The signed sum, or the ratio, of one seed's numbers, as bounds."""
    if expression.ratio:
        (low, high), (least, most) = bounds
        return _quotient(low, most), _quotient(high, least)
    signs = [sign for sign, _ in expression.terms]
    low = math.fsum(one[0] if sign > 0 else -one[1] for sign, one in zip(signs, bounds, strict=True))
    high = math.fsum(one[1] if sign > 0 else -one[0] for sign, one in zip(signs, bounds, strict=True))
    return low, high


def _quotient(above: float, below: float) -> float:
    """Of numbers from 0 to infinity; NaN where it is not defined."""
    if above < 0 or below < 0 or above == below == 0:
        return math.nan
    if math.isinf(below):
        return 0.0
    return math.inf if below == 0 else above / below


def _of_numbers(
    measured: Measured, expression: Expression, values: Sequence[Values], alpha: float
) -> Measured:
    bounds = [(low, high) for _, low, high in measured.values]
    if not bounds:
        return measured
    if expression.ratio:
        exact_zero = any(
            low == high == 0 or math.isnan(low) or low == high == math.inf for low, high in bounds
        )
        if exact_zero:
            return replace(measured, reason="not_positive")
        bounds = [(_log(low), _log(high)) for low, high in bounds]
    lows, highs = [low for low, _ in bounds], [high for _, high in bounds]
    error = _error(expression, values)
    back = math.exp if expression.ratio else float
    exact = lows == highs and not measured.censored
    middle = (_mean(lows) + _mean(highs)) / 2  # infinite, or NaN, where a side is open
    measured = replace(measured, value=_open(back(middle)) if math.isfinite(middle) else None)
    if exact and not error and max(lows) - min(lows) <= 2 * _rounding(expression, values):
        return replace(measured, reason="no_scatter")
    method, (low, high) = _interval(lows, highs, error, alpha)
    inner = _ends(lows, highs, error, 2 * alpha)
    return replace(
        measured,
        low=_open(_back(low, expression.ratio)),
        high=_open(_back(high, expression.ratio)),
        inner_low=_open(_back(inner[0], expression.ratio)),
        inner_high=_open(_back(inner[1], expression.ratio)),
        method=method,
    )


def _interval(
    lows: Sequence[float], highs: Sequence[float], error: float, alpha: float
) -> tuple[Method, tuple[float, float]]:
    if lows == highs and len(lows) >= MIN_BOOTSTRAP and all(map(math.isfinite, lows)):
        bootstrap = bootstrap_t(lows, error * math.sqrt(6), alpha)
        if bootstrap:
            return "bootstrap", bootstrap[:2]
    return "t", _ends(lows, highs, error, alpha)


def _ends(lows: Sequence[float], highs: Sequence[float], error: float, alpha: float) -> tuple[float, float]:
    """The lower end from what each number is at least, the upper end from what it is at most."""
    return -_upper([-low for low in lows], error, alpha), _upper(highs, error, alpha)


def _upper(values: Sequence[float], error: float, alpha: float) -> float:
    n, centre = len(values), _mean(values)
    if n < 2 or not math.isfinite(centre):
        return math.inf
    return centre + t_quantile(n - 1, 1 - alpha / 2) * max(std(values), error) / math.sqrt(n)


def _mean(values: Sequence[float]) -> float:
    """Infinite where one of them is."""
    return mean(values) if all(map(math.isfinite, values)) else math.inf


def _error(expression: Expression, values: Sequence[Values]) -> float:
    """The standard deviation that rounding alone gives to the sum, or to the logarithm of the ratio."""
    if not expression.ratio:
        return math.hypot(*(one.error for one in values))
    return math.hypot(*(_log_error(one) for one in values))


def _log_error(one: Values) -> float:
    if one.log_error is not None:
        return one.log_error
    centre = mean([low for low, _ in one.bounds.values()])
    return one.error / centre if one.error and centre > 0 else 0.0


def _rounding(expression: Expression, values: Sequence[Values]) -> float:
    """Up to this much float32 can't tell."""
    if expression.ratio:
        return 2 * ROUNDING
    return ROUNDING * max((abs(low) for one in values for low, _ in one.bounds.values()), default=0.0)


def _log(value: float) -> float:
    return math.log(value) if 0 < value < math.inf else math.copysign(math.inf, value - 1)


def _back(value: float, ratio: bool) -> float:
    if not ratio or math.isnan(value):
        return value
    return 0.0 if value == -math.inf else math.exp(min(value, 700.0)) if value < math.inf else value


def _open(value: float) -> float | None:
    """None stands for an end that is not known."""
    return value if math.isfinite(value) else None


def _of_shares(
    measured: Measured, expression: Expression, values: Sequence[Values], alpha: float
) -> Measured:
    """Shares of seeds that trained."""
    if not measured.n:
        return measured
    counts = [(round(sum(low for low, _ in one.bounds.values())), len(one.bounds)) for one in values]
    signs = [sign for sign, _ in expression.terms]
    shares = [count / n for count, n in counts]
    value = math.fsum(sign * share for sign, share in zip(signs, shares, strict=True))
    low, high = share_interval(signs, counts, alpha)
    inner_low, inner_high = share_interval(signs, counts, 2 * alpha)
    return replace(
        measured,
        value=value,
        low=low,
        high=high,
        inner_low=inner_low,
        inner_high=inner_high,
        method="exact",
    )


def _judged(measured: Measured, expression: Expression, values: Sequence[Values]) -> Measured:
    """With its verdict. Runs that are missing or lost leave no fair sample, so that there is none."""
    if measured.lost:
        return replace(measured, reason="pairs_lost")
    if measured.n < measured.n_planned:
        return replace(measured, reason="runs_missing")
    if measured.n < MIN_SEEDS:
        return replace(measured, reason="too_few_seeds")
    if measured.reason == "not_positive":
        return measured
    if _are_twins(expression, values):
        verdict: Verdict = "confirmed" if expression.sign == "=" else "not_confirmed"
        return replace(measured, verdict=verdict, reason="same_results")
    if measured.reason == "no_scatter":
        return measured
    verdict = _verdict(measured, _rounding(expression, values))
    cut = verdict == "undecided" and (measured.low is None or measured.high is None)
    return replace(measured, verdict=verdict, reason="cut" if cut else "")


def _are_twins(expression: Expression, values: Sequence[Values]) -> bool:
    """Whether two variants that are held against each other are one network, to rounding."""
    if len(values) != 2 or expression.value != (1.0 if expression.ratio else 0.0):
        return False
    one, other = values
    if one.cell is None or other.cell is None or one.quantity.name != other.quantity.name:
        return False
    return one.quantity != other.quantity and same_results(one.cell, other.cell)


def _verdict(measured: Measured, rounding: float) -> Verdict:
    """Inside the margin counts first, as everywhere: a difference that is sure but too small to matter is none."""
    low, high = _distance(measured.low, measured, -1), _distance(measured.high, measured, 1)
    inner_low, inner_high = (
        _distance(measured.inner_low, measured, -1),
        _distance(measured.inner_high, measured, 1),
    )
    margin = measured.margin
    if margin is not None and measured.ratio:
        margin = math.log1p(margin)
    same = margin is not None and -margin < inner_low and inner_high < margin
    if measured.sign == "=":
        apart = margin is not None and (low > margin or high < -margin)
        return "confirmed" if same else "refuted" if apart else "undecided"
    if same:
        return "not_confirmed"
    if low <= rounding and high >= -rounding:
        return "undecided"
    rises = low > rounding
    return "confirmed" if rises == (measured.sign in (">", ">=")) else "refuted"


def _distance(end: float | None, measured: Measured, open_end: int) -> float:
    """From the limit, of a ratio as a logarithm."""
    if end is None:
        return open_end * math.inf
    return _log(end) - math.log(measured.limit) if measured.ratio else end - measured.limit
