"""Histograms with fixed bins: symmetric, two for each factor of two. Counts of any two of them can be added.

The bins do not depend on the values, so that layers, steps, seeds and variants share them. With k the number of a bin:

    0                      |x| <= 2^-24
    1, 3, 5, ..., 81       2^e < x <= 1.5 * 2^e        e = -24 + (k - 1) / 2
    2, 4, 6, ..., 82       1.5 * 2^e < x <= 2^(e + 1)  e = -24 + (k - 2) / 2
    -k                     the same for -x
    "nan", "inf", "-inf"   values that are not finite

The last bin, 82, takes everything above 1.5 * 2^16 = 98,304. The edges are exact in float32. A bin has its upper edge,
so that a saturated tanh or sigmoid, which is 1 in float32, is in a bin that ends there.
"""

from __future__ import annotations

import math
from typing import Any

#: The exponents of the smallest and the largest edge of a factor of two.
LOWEST, HIGHEST = -24, 16
#: The number of the last bin.
LAST = 2 * (HIGHEST - LOWEST + 1)
#: What float32 adds to its exponent.
_BIAS = 127


def bin_edges(number: int) -> tuple[float, float]:
    """From where to where that bin goes. Raises ValueError where there is no such bin.

    >>> bin_edges(49), bin_edges(-50), bin_edges(82)
    ((1.0, 1.5), (-2.0, -1.5), (98304.0, inf))
    """
    if abs(number) > LAST:
        raise ValueError(f"there is no bin {number}: they go from {-LAST} to {LAST}")
    if number == 0:
        return -(2.0**LOWEST), 2.0**LOWEST
    half, exponent = (abs(number) - 1) % 2, LOWEST + (abs(number) - 1) // 2
    low = 2.0**exponent * (1.5 if half else 1.0)
    high = math.inf if abs(number) == LAST else 2.0**exponent * (2.0 if half else 1.5)
    return (low, high) if number > 0 else (-high, -low)


def bin_counts(values: Any) -> dict[str, int]:
    """By the name of the bin, how many of the values (a float32 array of any shape) are in it; empty bins are left out.

    >>> import numpy as np
    >>> bin_counts(np.array([0.0, 1.0, 1.2, -1.75, np.nan], "float32"))
    {'-50': 1, '0': 1, '48': 1, '49': 1, 'nan': 1}
    """
    import numpy as np

    values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    bits = values.view(np.int32)
    # a float's exponent and the first bit of its fraction count the bins; the float before it has them at an edge
    numbers = ((bits & 0x7FFFFFFF) - 1) >> 22
    numbers -= 2 * (_BIAS + LOWEST) - 1
    np.clip(numbers, 0, LAST, out=numbers)
    np.negative(numbers, out=numbers, where=bits < 0)
    counts = np.bincount(numbers + LAST, minlength=2 * LAST + 1)
    odd: dict[str, int] = {}
    if not np.isfinite(values).all():
        for name, found in (
            ("nan", np.isnan(values)),
            ("inf", values == np.inf),
            ("-inf", values == -np.inf),
        ):
            if amount := int(found.sum()):
                odd[name] = amount
                np.subtract.at(counts, numbers[found] + LAST, 1)
    (filled,) = counts.nonzero()
    return {str(number - LAST): int(counts[number]) for number in filled.tolist()} | odd
