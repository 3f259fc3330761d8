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

    (counts,) = bin_counts_by_row(np.asarray(values).reshape(1, -1))
    return counts


def bin_counts_by_row(values: Any) -> list[dict[str, int]]:
    """The same of each row of a float32 array (rows, values)."""
    import numpy as np

    values = np.ascontiguousarray(values, dtype=np.float32)
    bits = values.view(np.int32)
    # a float's exponent and the first bit of its fraction count the bins; the float before it has them at an edge
    numbers = ((bits & 0x7FFFFFFF) - 1) >> 22
    numbers -= 2 * (_BIAS + LOWEST) - 1
    np.clip(numbers, 0, LAST, out=numbers)
    np.negative(numbers, out=numbers, where=bits < 0)
    numbers += LAST
    width = 2 * LAST + 1
    starts = np.arange(len(values), dtype=numbers.dtype)[:, None] * width
    counts = np.bincount((numbers + starts).reshape(-1), minlength=len(values) * width).reshape(-1, width)
    finite = np.isfinite(values)
    odd: list[dict[str, int]] = [{} for _ in values]
    for row in (~finite.all(1)).nonzero()[0].tolist():
        of_row = values[row]
        np.subtract.at(counts[row], numbers[row][~finite[row]], 1)
        found = {"nan": np.isnan(of_row), "inf": of_row == np.inf, "-inf": of_row == -np.inf}
        odd[row] = {name: amount for name, where in found.items() if (amount := int(where.sum()))}
    rows, filled = (places.tolist() for places in counts.nonzero())
    by_row: list[dict[str, int]] = [{} for _ in values]
    for row, place, amount in zip(rows, filled, counts[counts > 0].tolist(), strict=True):
        by_row[row][_NAMES[place]] = amount
    return [counted | others for counted, others in zip(by_row, odd, strict=True)]


#: The names of the bins from the first to the last.
_NAMES = [str(number) for number in range(-LAST, LAST + 1)]
