"""Numbers that describe many values: moments, percentiles and histograms, as rows.

Percentiles and histograms of more than `MOST` values are those of `MOST` of them, drawn once for each number of values:
so a probe costs as much in a wide network as a step does. Means, deviations and shares are of all values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnbench.base.histogram import bin_counts_by_row
from bnbench.base.seeding import generator
from bnbench.probes.inside import Row, Rows, norm_of
from bnbench.probes.together import OfAll

PERCENTILES = (5, 15, 50, 85, 95)
#: Values that percentiles and a histogram are of, at most.
MOST = 2**14


def distributions(named: Mapping[tuple[str, str], Tensor], count: int, histograms: bool = False) -> OfAll:
    """Mean, std, percentiles and perhaps the histogram of tensors, for each of `count` replicas.

    named: by the layer and the beginning of the quantities' names, tensors (S, ...). Those with as many values are
    looked at together, which for small ones costs as much as a single one.
    """
    found: OfAll = [[] for _ in range(count)]
    groups: dict[int, list[tuple[str, str]]] = {}
    for key, values in named.items():
        groups.setdefault(values[0].numel(), []).append(key)
    for size, keys in groups.items():
        if size <= MOST:
            whole = torch.cat([named[key].reshape(count, -1) for key in keys])
            means, deviations = _moments(whole)
            some = whole.float().cpu().numpy()
        else:
            pairs = [_of_many(part) for key in keys for part in named[key]]
            means, deviations = [mean for mean, _ in pairs], [deviation for _, deviation in pairs]
            some = np.stack([some_values(part) for key in keys for part in named[key]])
        of_percent = percentiles(some, PERCENTILES).tolist()
        bins = bin_counts_by_row(some) if histograms else None
        for row, (layer, prefix) in enumerate(key for key in keys for _ in range(count)):
            rows = found[row % count]
            rows.append(Row(layer, f"{prefix}_mean", means[row]))
            rows.append(Row(layer, f"{prefix}_std", deviations[row]))
            for percent, value in zip(PERCENTILES, of_percent[row], strict=True):
                rows.append(Row(layer, f"{prefix}_p{percent}", value))
            if bins is not None:
                rows.append(Rows(layer, f"{prefix}_histogram", list(bins[row]), list(bins[row].values())))
    return found


def _moments(values: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation √(Σ(x - mean)²/n) of each row, in double precision."""
    exact = values.double()
    mean = exact.mean(1, keepdim=True)
    deviation = torch.linalg.vector_norm(exact - mean, dim=1) / values.shape[1] ** 0.5
    return mean.flatten().tolist(), deviation.tolist()


def _of_many(values: Tensor) -> tuple[float, float]:
    """The same of one tensor of many values, where double precision, or torch.var, takes as long as the layer."""
    exact = values.float()
    mean = exact.mean()
    return float(mean), norm_of(exact - mean) / values.numel() ** 0.5


def percentiles(values: Any, percents: tuple[float, ...]) -> Any:
    """The percentiles of the last axis, interpolated linearly between neighbours; NaN where a value is not finite.

    values: a float array (..., n). The result: (..., percents) float64. As numpy.percentile, in a fraction of its time.
    """
    ordered = np.sort(values, axis=-1)
    below, above, share = _order(ordered.shape[-1], percents)
    low, high = ordered[..., below].astype(np.float64), ordered[..., above].astype(np.float64)
    with np.errstate(invalid="ignore"):  # of what is not finite
        result = low + share * (high - low)
    result[~np.isfinite(ordered[..., [0, -1]]).all(-1)] = np.nan
    return result


@lru_cache(256)
def _order(count: int, percents: tuple[float, ...]) -> tuple[Any, Any, Any]:
    """Places in the sorted order: those below and above each percentile, and the way between them."""
    positions = np.asarray(percents) / 100 * (count - 1)
    below = np.floor(positions).astype(int)
    above = np.minimum(below + 1, count - 1)
    return below, above, positions - below


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
