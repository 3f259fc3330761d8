"""Numbers that describe many values: moments, percentiles and histograms, as rows.

Percentiles and histograms of more than `MOST` values are those of `MOST` of them, drawn once for each number of values:
so a probe costs as much in a wide network as a step does. Means, deviations and shares are of all values.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnbench.base.histogram import bin_counts
from bnbench.base.seeding import generator
from bnbench.probes.inside import Row, Rows, norm_of

PERCENTILES = (5, 15, 50, 85, 95)
#: Values that percentiles and a histogram are of, at most.
MOST = 2**14


def moments(layer: str, prefix: str, values: Tensor) -> Iterator[Row]:
    """Mean and standard deviation √(Σ(x - mean)²/n) of all values."""
    # in double precision where that costs nothing; torch.var of many values takes as long as the layer itself
    exact = values.double() if values.numel() <= MOST else values.float()
    mean = exact.mean()
    deviation = norm_of(exact - mean) / values.numel() ** 0.5
    yield Row(layer, f"{prefix}_mean", float(mean))
    yield Row(layer, f"{prefix}_std", deviation)


def percentile_rows(layer: str, prefix: str, values: Any) -> Iterator[Row]:
    """The percentiles 5, 15, 50, 85 and 95 of a flat float array."""
    for percent, value in zip(PERCENTILES, percentiles(values, PERCENTILES).tolist(), strict=True):
        yield Row(layer, f"{prefix}_p{percent}", value)


def histogram_rows(layer: str, prefix: str, values: Any) -> Rows:
    """The counts of all bins with a value in them (see `bnbench.base.histogram`)."""
    counts = bin_counts(values)
    return Rows(layer, f"{prefix}_histogram", list(counts), list(counts.values()))


def percentiles(values: Any, percents: tuple[float, ...]) -> Any:
    """The percentiles of the last axis, interpolated linearly between neighbours; NaN where a value is not finite.

    values: a float array (..., n). The result: (..., percents) float64. As numpy.percentile, in a fraction of its time.
    """
    places, below, above, share = _order(values.shape[-1], percents)
    ordered = values.copy()
    ordered.partition(places, axis=-1)
    low, high = ordered[..., below].astype(np.float64), ordered[..., above].astype(np.float64)
    with np.errstate(invalid="ignore"):  # of what is not finite
        result = low + share * (high - low)
    result[~np.isfinite(ordered[..., [0, -1]]).all(-1)] = np.nan
    return result


@lru_cache(256)
def _order(count: int, percents: tuple[float, ...]) -> tuple[list[int], Any, Any, Any]:
    """Places in the sorted order: those needed, those below and above each percentile, and the way between them."""
    positions = np.asarray(percents) / 100 * (count - 1)
    below = np.floor(positions).astype(int)
    above = np.minimum(below + 1, count - 1)
    # the ends as well, where whatever is not finite is
    return sorted({0, count - 1, *below.tolist(), *above.tolist()}), below, above, positions - below


def some_values(values: Tensor) -> Any:
    """At most `MOST` of a tensor's values as a flat float32 array on the CPU."""
    count = values.numel()
    if count > MOST:
        values = values.take(_drawn(count, str(values.device)))
    return values.reshape(-1).float().cpu().numpy()


@lru_cache(128)
def _drawn(count: int, device: str) -> Tensor:
    """Which of so many values are looked at: the same in every layer, run and process."""
    return torch.randint(count, (MOST,), generator=generator(count, "values")).to(device)
