"""The search for the usual mistakes that explain the layer's output.

A mistake is named only where the numbers that it would give are the numbers that the layer gave, to the
tolerance of the check. Two mistakes at once are tried where no single one fits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from bnbench.verification.cause import Cause
from bnbench.verification.formulas import Formula


def deviation(seen: Tensor, expected: Tensor, axis: int) -> float:
    """The worst |seen - expected| of each channel over the channel's largest |expected|, over all channels.

    axis: the channels'. inf where something is not finite, or the sizes differ.
    """
    if seen.numel() != expected.numel() or not seen.isfinite().all():
        return float("inf")
    seen, expected = seen.double().reshape(expected.shape), expected.double()
    if expected.numel() == 0:
        return 0.0
    others = [other for other in range(expected.dim()) if other != axis]
    difference, size = (seen - expected).abs(), expected.abs()
    if others:
        difference, size = difference.amax(others), size.amax(others)
    floor = max(1e-6 * float(size.max()), torch.finfo(torch.float64).tiny)
    return float((difference / size.clamp_min(floor)).max())


def close(seen: Tensor, predicted: Tensor, tolerance: float) -> bool:
    """Whether an output is what a formula predicts: in each channel, or to the rounding of float32.

    An activation can leave a channel with small values alone, of which float32 has fewer digits.
    """
    if deviation(seen, predicted, 1) <= tolerance:
        return True
    if seen.numel() != predicted.numel() or not seen.isfinite().all():
        return False
    error = (seen.double().reshape(predicted.shape) - predicted).abs().max()
    return float(error) <= 2e-6 * max(1.0, float(predicted.abs().max()))


def explain(
    fits: Callable[[Formula], bool],
    causes: Iterable[Cause],
    check: str,
    rank: int,
    right: Formula,
    known: Sequence[Cause] = (),
) -> tuple[Cause, ...]:
    """The fewest mistakes with which the formula fits; none where no one or two of them do.

    known: mistakes from an earlier check, which may explain this one, too. If two fit equally well,
    the first in the table is returned.
    """
    table = [cause for cause in causes if check in cause.shows_in and rank in cause.ranks]
    starts = [(), tuple(known)] if known else [()]
    for size in (0, 1, 2):
        for start in starts:
            tried = table if size < 2 else [cause for cause in table if cause.pairs]
            for added in itertools.combinations(tried, size):
                chosen = (*start, *added)
                if _compatible(chosen) and chosen and fits(_with(right, chosen)):
                    return chosen
    return ()


def _compatible(causes: Sequence[Cause]) -> bool:
    changed = [name for cause in causes for name, _ in cause.change]
    return len(changed) == len(set(changed))


def _with(formula: Formula, causes: Sequence[Cause]) -> Formula:
    for cause in causes:
        formula = cause.applied(formula)
    return formula
