"""Intervals of shares of seeds, and of a difference of two."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnbench.analysis.methods.intervals import Interval
from bnbench.analysis.rates import clopper_pearson, fisher_p, wilson


def share_interval(signs: Sequence[int], counts: Sequence[tuple[int, int]], alpha: float) -> Interval:
    """Interval of a share of seeds, or of a signed difference of two. counts: k of n of each.

    One share has Clopper and Pearson's exact interval, a difference of two Newcombe's (1998, Statistics in Medicine
    17(8), method 10), which includes 0 where Fisher's exact test does not exclude it.
    """
    if len(counts) == 1:
        (count, n), sign = counts[0], signs[0]
        low, high = clopper_pearson(count, n, alpha)
        return (low, high) if sign > 0 else (-high, -low)
    (first, n_first), (second, n_second) = counts
    low_first, high_first = wilson(first, n_first, 1 - alpha)
    low_second, high_second = wilson(second, n_second, 1 - alpha)
    if low_first is None or high_first is None or low_second is None or high_second is None:
        return None, None
    one, other = first / n_first, second / n_second
    below = math.hypot(one - low_first, high_second - other)
    above = math.hypot(high_first - one, other - low_second)
    low, high = one - other - below, one - other + above
    if fisher_p(first, n_first, second, n_second) > alpha:  # then 0 is not excluded
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high
