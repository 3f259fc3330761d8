"""Student's t on paired differences: intervals, p values, power, equivalence; and Holm's correction.

Plain sequences in, plain numbers out. scipy gives the distributions, loaded on first use.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Interval = tuple[float | None, float | None]

#: Fewer paired seeds than this give numbers, but no verdict.
MIN_SEEDS = 3
CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
POWER = 0.80
#: No study is told that it needs more seeds than this.
MAX_SEEDS_NEEDED = 10_000


def paired_interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Interval of the mean of paired differences: mean ± t(n-1) · std / √n. Equal differences: a point."""
    n = len(differences)
    if n < 2:
        return None, None
    mean = statistics.fmean(differences)
    half = _t_quantile(n - 1, (1 + confidence) / 2) * std(differences) / math.sqrt(n)
    return mean - half, mean + half


def welch_interval(first: Sequence[float], second: Sequence[float]) -> Interval:
    """95 % interval of the difference of two means, unpaired, variances unequal (Welch 1947)."""
    if min(len(first), len(second)) < 2:
        return None, None
    mean = statistics.fmean(first) - statistics.fmean(second)
    parts = [(std(values) ** 2 / len(values), len(values) - 1) for values in (first, second)]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return mean, mean
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = _t_quantile(freedom, (1 + CONFIDENCE) / 2) * math.sqrt(variance)
    return mean - half, mean + half


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation, None for fewer than 3 pairs or where a side does not vary."""
    if len(first) < MIN_SEEDS or not std(first) or not std(second):
        return None
    return statistics.correlation(first, second)


def paired_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t test against 0; it is below 5 % where the 95 % interval excludes 0."""
    if len(differences) < 2:
        return None
    return 2 * _tail(differences, abs(statistics.fmean(differences)))


def equivalence_p(differences: Sequence[float], margin: float) -> float | None:
    """p of "the mean lies outside ±margin": two one-sided t tests (Schuirmann 1987), the larger p.

    It is below 5 % where the 90 % interval lies inside the margin. None for n < 3.
    """
    if len(differences) < MIN_SEEDS:
        return None
    mean = statistics.fmean(differences)
    return max(_tail(differences, margin - mean), _tail(differences, margin + mean))


def _tail(differences: Sequence[float], distance: float) -> float:
    """P(T > distance / standard error), T of Student with n-1 degrees; without scatter 0, 1/2 or 1."""
    error = std(differences) / math.sqrt(len(differences))
    if not error:
        return 0.5 if distance == 0 else float(distance < 0)
    from scipy import special

    return float(special.stdtr(len(differences) - 1, -distance / error))


def detectable_difference(differences: Sequence[float], alpha: float = ALPHA) -> float | None:
    """The smallest true mean that a paired t test of so many such differences finds with 80 % power.

    From the noncentral t distribution, two-sided at alpha; the chance to reject on the wrong side
    (below 1e-4 at that power) is left out. In the unit of the differences; None for n < 3.
    """
    n = len(differences)
    if n < MIN_SEEDS:
        return None
    from scipy import special

    noncentrality = float(special.nctdtrinc(n - 1, 1 - POWER, _t_quantile(n - 1, 1 - alpha / 2)))
    return noncentrality * std(differences) / math.sqrt(n)


def seeds_needed(differences: Sequence[float], alpha: float = ALPHA) -> int | None:
    """How many seeds find the mean that was seen, with the scatter that was seen, with 80 % power.

    None for n < 3, for a mean of 0, and where it is more than MAX_SEEDS_NEEDED. An estimate from an
    estimate: the effect that was seen is not the true one.
    """
    if len(differences) < MIN_SEEDS or not (mean := abs(statistics.fmean(differences))):
        return None
    scatter = std(differences)

    def enough(n: int) -> bool:
        return not scatter or _power(mean / scatter * math.sqrt(n), n - 1, alpha) >= POWER

    high = MIN_SEEDS
    while not enough(high):
        high *= 2
        if high > MAX_SEEDS_NEEDED:
            return None
    low = max(high // 2, MIN_SEEDS - 1)  # not enough, or fewer than a verdict asks for
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _power(noncentrality: float, freedom: int, alpha: float) -> float:
    from scipy import special

    return 1 - float(special.nctdtr(freedom, noncentrality, _t_quantile(freedom, 1 - alpha / 2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): adjusted p values in the given order.

    The i-th smallest of m is multiplied by m - i + 1; none is smaller than the one before it.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def std(values: Sequence[float]) -> float:
    """Standard deviation with n-1, exactly 0 where all values are equal."""
    return statistics.stdev(values)


def _t_quantile(freedom: float, probability: float) -> float:
    from scipy import special

    return float(special.stdtrit(freedom, probability))
