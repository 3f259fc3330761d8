"""How large a difference some seeds find, and how many seeds find one of a given size: for planning.

Neither uses the difference that was seen: a power computed from that says no more than its p value
(Hoenig and Heisey 2001).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnbench.analysis.methods.intervals import ALPHA, CONFIDENCE, MIN_SEEDS, scatter, t_quantile

POWER = 0.80
#: No plan asks for more seeds than this.
MAX_SEEDS_NEEDED = 10_000


def detectable_difference(
    differences: Sequence[float], alpha: float = ALPHA, grain: float = 0.0
) -> float | None:
    """The smallest true mean that a paired t test of so many such differences finds with 80 % power.

    From the noncentral t distribution, two-sided at alpha; the chance to reject on the wrong side
    (below 1e-4 at that power) is left out. In the unit of the differences; None for n < 3.
    """
    n = len(differences)
    if n < MIN_SEEDS:
        return None
    from scipy import special

    noncentrality = float(special.nctdtrinc(n - 1, 1 - POWER, t_quantile(n - 1, 1 - alpha / 2)))
    return noncentrality * scatter(differences, grain) / math.sqrt(n)


def scatter_factors(n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """By what factors a standard deviation of n values may be off: √((n-1)/χ²) at both ends of the interval."""
    from scipy import special

    tail = (1 - confidence) / 2
    low, high = (math.sqrt((n - 1) / float(special.chdtri(n - 1, p))) for p in (tail, 1 - tail))
    return low, high


def seeds_needed(effect: float, spread: float, alpha: float = ALPHA) -> int | None:
    """How many seeds find a true mean difference of that size, with differences of that scatter, with 80 % power.

    None for an effect of 0, and where it is more than MAX_SEEDS_NEEDED.

    Examples
    --------
    A paired difference of half a standard deviation needs 34 pairs (G*Power 3.1).

    >>> seeds_needed(0.5, 1.0)
    34
    """
    if not effect:
        return None

    def enough(n: int) -> bool:
        return not spread or _power(abs(effect) / spread * math.sqrt(n), n - 1, alpha) >= POWER

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

    return 1 - float(special.nctdtr(freedom, noncentrality, t_quantile(freedom, 1 - alpha / 2)))
