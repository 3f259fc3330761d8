"""Intervals by a bootstrap over batches, and what two halves of the data differ by."""

from __future__ import annotations

import torch
from torch import Tensor

from bnbench.base.gap_records import Measure
from bnbench.base.seeding import generator

RESAMPLES, HALVES = 400, 64
#: Batches below which a bootstrap says nothing.
FEWEST = 4
_ENDS = (0.025, 0.975)


def resampled(batches: int) -> Tensor:
    """How often each batch counts in each resample, (RESAMPLES, B) float64; the same for the same B."""
    drawn = torch.randint(batches, (RESAMPLES, batches), generator=generator(0, "doctor", "bootstrap"))
    return torch.zeros(RESAMPLES, batches, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(RESAMPLES, batches, dtype=torch.float64)
    )


def halves(batches: int) -> tuple[Tensor, Tensor]:
    """Random halves of the batches: two weights (HALVES, B), 1 in one of them."""
    draw = generator(0, "doctor", "halves")
    first = torch.zeros(HALVES, batches, dtype=torch.float64)
    for row in first:
        row[torch.randperm(batches, generator=draw)[: batches // 2]] = 1.0
    return first, 1 - first


def size_measure(squares: Tensor, square: float) -> Measure:
    """A root mean square: `square` of the data, `squares` (R,) of the resamples.

    A resample holds the noise of the data twice, which makes its squares larger on average: they are moved back.
    """
    value = max(square, 0.0) ** 0.5
    if squares.numel() == 0:
        return Measure(value, float("nan"), float("nan"))
    moved = (squares - squares.mean() + square).clamp(min=0).sqrt()
    low, high = (float(moved.quantile(end)) for end in _ENDS)
    return Measure(value, low, high)


def mean_measure(values: Tensor, sizes: Tensor) -> Measure:
    """The mean of a number a batch, (B,), weighted by the batches' samples (B,)."""
    value = float((values * sizes).sum() / sizes.sum())
    if len(values) < FEWEST:
        return Measure(value, float("nan"), float("nan"))
    weights = resampled(len(values)) * sizes
    means = (weights @ values) / weights.sum(1)
    low, high = (float(means.quantile(end)) for end in _ENDS)
    return Measure(value, low, high)
