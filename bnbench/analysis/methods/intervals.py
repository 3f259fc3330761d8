"""Student's t on paired differences: intervals, p values, equivalence; and Holm's correction.

Plain sequences in, plain numbers out. scipy gives the distributions, loaded on first use; scipy.stats
itself takes over a second to load, so these few formulas are written out and tested against it.

grain: the largest change that the answer on one sample can make to the metric (1/N for an accuracy
of N samples; 0 where there is no such bound). A share of N samples is rounded to the grain, and the
difference of two of them has a rounding error of variance grain²/12 + grain²/12. So no scatter is
taken for smaller than grain/√6: three seeds that happen to agree do not prove that all would.
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


def paired_interval(
    differences: Sequence[float], confidence: float = CONFIDENCE, grain: float = 0.0
) -> Interval:
    """Interval of the mean of paired differences: mean ± t(n-1) · scatter / √n.

    Examples
    --------
    Ten patients' extra hours of sleep, one drug against the other: 0.70 to 2.46 hours (Student 1908, Biometrika 6(1)).

    >>> sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    >>> [round(bound, 2) for bound in paired_interval(sleep)]
    [0.7, 2.46]
    """
    n = len(differences)
    if n < 2:
        return None, None
    half = t_quantile(n - 1, (1 + confidence) / 2) * scatter(differences, grain) / math.sqrt(n)
    return mean(differences) - half, mean(differences) + half


def welch_interval(first: Sequence[float], second: Sequence[float], grain: float = 0.0) -> Interval:
    """95 % interval of the difference of two means, unpaired, variances unequal (Welch 1947, Biometrika 34(1-2)).

    A side's rounding error alone has the standard deviation grain/√12.

    Examples
    --------
    Student's patients again, as if the groups were not the same people (R's `t.test(extra ~ group, sleep)`):

    >>> first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    >>> second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    >>> [round(bound, 4) for bound in welch_interval(first, second)]
    [-3.3655, 0.2055]
    """
    if min(len(first), len(second)) < 2:
        return None, None
    centre = mean(first) - mean(second)
    sides = (first, second)
    errors = [max(std(side), grain / math.sqrt(12)) / math.sqrt(len(side)) for side in sides]
    error = math.hypot(*errors)
    if error == 0:
        return centre, centre
    shares = [(part / error) ** 2 for part in errors]
    freedom = 1 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True))
    half = t_quantile(freedom, (1 + CONFIDENCE) / 2) * error
    return centre - half, centre + half


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation, None for fewer than 3 pairs or where a side does not vary."""
    if len(first) < MIN_SEEDS or not std(first) or not std(second):
        return None
    try:
        return statistics.correlation(first, second)
    except (statistics.StatisticsError, OverflowError):  # its squares overflow a float
        return None


def paired_p(differences: Sequence[float], grain: float = 0.0) -> float | None:
    """Two-sided p of the paired t test against 0; it is below 5 % where the 95 % interval excludes 0.

    Examples
    --------
    >>> sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    >>> round(paired_p(sleep), 6)  # 0.002833 in R's `t.test(extra ~ group, sleep, paired = TRUE)`
    0.002833
    """
    if len(differences) < 2:
        return None
    return 2 * _tail(differences, abs(mean(differences)), grain)


def equivalence_p(differences: Sequence[float], margin: float, grain: float = 0.0) -> float | None:
    """p of "the mean lies outside ±margin": two one-sided t tests (Schuirmann 1987), the larger p.

    It is below 5 % where the 90 % interval lies inside the margin. None for n < 3.
    """
    if len(differences) < MIN_SEEDS:
        return None
    centre = mean(differences)
    return max(_tail(differences, margin - centre, grain), _tail(differences, margin + centre, grain))


def _tail(differences: Sequence[float], distance: float, grain: float) -> float:
    """P(T > distance / standard error), T of Student with n-1 degrees; without scatter 0, 1/2 or 1."""
    error = scatter(differences, grain) / math.sqrt(len(differences))
    if not error:
        return 0.5 if distance == 0 else float(distance < 0)
    from scipy import special

    return float(special.stdtr(len(differences) - 1, -distance / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979, Scand. J. Statist. 6(2)): adjusted p values in the given order.

    The i-th smallest of m is multiplied by m - i + 1; none is smaller than the one before it.

    Examples
    --------
    R's `p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")`:

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def scatter(differences: Sequence[float], grain: float = 0.0) -> float:
    """Standard deviation of differences, at least the standard deviation of their rounding: grain/√6."""
    return max(std(differences), grain / math.sqrt(6))


def std(values: Sequence[float]) -> float:
    """Standard deviation with n-1, exactly 0 where all values are equal."""
    try:
        return statistics.stdev(values)
    except OverflowError:
        return math.inf


def mean(values: Sequence[float]) -> float:
    """The mean, also of numbers whose sum overflows a float."""
    try:
        return statistics.fmean(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def t_quantile(freedom: float, probability: float) -> float:
    """Student's t."""
    from scipy import special

    return float(special.stdtrit(freedom, probability))
