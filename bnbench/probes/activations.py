"""What enters and leaves the activations of the probe batch: their distributions, and the units that do nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Layer, Row, Rows
from bnbench.probes.numbers import (
    histogram_rows,
    moments,
    percentile_rows,
    percentiles,
    some_values,
)

#: Percentiles of a single unit, as in figure 1 b, c of Ioffe & Szegedy (2015, arXiv 1502.03167).
UNIT_PERCENTILES = (15, 50, 85)
#: Units of every layer that are followed one by one, and of the last hidden layer: evenly spaced.
FEW_UNITS, MANY_UNITS = 3, 64
#: Samples that the percentiles of a unit are of, at most, times places in an image.
MOST_OF_A_UNIT = 2048
#: Activations of the family of ReLU: flat below, where they pass no gradient. A unit that is flat for all samples is
#: dead.
RELU_FAMILY = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.Hardswish,
    nn.Softplus,
)
#: A derivative as near as this to 0 passes no gradient. That of ReLU is 0 or 1.
NO_GRADIENT = 1e-6
#: Bounded activations and their asymptotes. An output is saturated where it is nearer to one of them than SATURATED
#: of the range between them.
BOUNDED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
}
SATURATED = 0.01
#: Samples that tell of most units that they are neither.
FIRST_SAMPLES = 8


@probes.register("activations")
def activations(inside: Inside) -> Iterator[Row | Rows]:
    """Mean, std, percentiles and histogram of pre-activations and activations; dead and saturated units."""
    passed = inside.passed
    hidden = [layer.name for layer in inside.layers if layer.hidden]
    for layer in inside.layers:
        if layer.name in passed.pre:
            pre = passed.pre[layer.name]
            yield from _distribution(layer.name, "pre", pre, inside.detailed)
            count = MANY_UNITS if layer.name in hidden[-1:] else FEW_UNITS
            yield from _units(layer, pre, count)
            if inside.detailed and layer.name in inside.other_pre:
                yield from _medians(layer, inside.other_pre[layer.name], count)
        if layer.name in passed.post:
            post = passed.post[layer.name]
            yield from _distribution(layer.name, "post", post, inside.detailed)
            yield from _idle(layer, passed.pre[layer.name], post)


def _distribution(layer: str, prefix: str, values: Tensor, detailed: bool) -> Iterator[Row | Rows]:
    yield from moments(layer, prefix, values)
    some = some_values(values)
    yield from percentile_rows(layer, prefix, some)
    if detailed:
        yield histogram_rows(layer, prefix, some)


def _units(layer: Layer, values: Tensor, count: int) -> Iterator[Row | Rows]:
    """The percentiles of single units (of a convolution: channels), over samples and places."""
    units = some_units(values.shape[unit_axis(layer, values)], count)
    of_units = unit_values(layer, values, units)
    for percent, row in zip(UNIT_PERCENTILES, percentiles(of_units, UNIT_PERCENTILES).T, strict=True):
        yield Rows(layer.name, f"unit_p{percent}", units, row.tolist())


def _medians(layer: Layer, values: Tensor, count: int) -> Iterator[Rows]:
    """The medians of the same units with the other batch: how far they lie apart without an update."""
    units = some_units(values.shape[unit_axis(layer, values)], count)
    (medians,) = percentiles(unit_values(layer, values, units), (50,)).T
    yield Rows(layer.name, "unit_p50_other", units, medians.tolist())


@lru_cache(256)
def some_units(total: int, count: int) -> list[int]:
    """The numbers of so many of a layer's units, evenly spaced from the first to the last."""
    count = min(total, count)
    return [round(index * (total - 1) / max(1, count - 1)) for index in range(count)]


def unit_values(layer: Layer, values: Tensor, units: Sequence[int]) -> Any:
    """The values of some units over samples and places as (units, values), float32 on the CPU.

    Of more than `MOST_OF_A_UNIT` values, that many, evenly spaced.
    """
    by_unit = values.movedim(unit_axis(layer, values), -1)
    *sizes, total = by_unit.shape
    places = math.prod(sizes)
    if places <= MOST_OF_A_UNIT:
        rows = by_unit.reshape(places, total)
    else:
        rows = by_unit[np.unravel_index(some_units(places, MOST_OF_A_UNIT), sizes)]
    return rows[:, torch.tensor(units, device=rows.device)].T.float().cpu().numpy()


def _idle(layer: Layer, pre: Tensor, post: Tensor) -> Iterator[Row]:
    """Units that pass no gradient for any sample and place, units that are saturated for every one, and such values.

    Which of the two an activation has depends on its class; a linear one, or one of a user's own, has neither.
    """
    axis, kind = unit_axis(layer, post), type(layer.activation)
    units = post.shape[axis]
    yield Row(layer.name, "units", float(units))
    if kind is nn.ReLU:
        yield Row(layer.name, "dead_share", _everywhere(post, axis, lambda values: values == 0) / units)
    elif kind in RELU_FAMILY and layer.activation is not None:
        passes_none = partial(_passes_none, layer.activation)
        yield Row(layer.name, "dead_share", _everywhere(pre, axis, passes_none) / units)
    if kind not in BOUNDED:
        return
    low, high = BOUNDED[kind]
    middle, half = (low + high) / 2, (high - low) / 2

    def saturated(values: Tensor) -> Tensor:
        return (values - middle).abs() > half * (1 - 2 * SATURATED)

    yield Row(layer.name, "saturated_share", _everywhere(post, axis, saturated) / units)
    yield Row(layer.name, "saturated_values", int(saturated(post).sum()) / post.numel())


@torch.enable_grad()
def _passes_none(activation: nn.Module, pre: Tensor) -> Tensor:
    """Where the activation's derivative is 0, or as good as that."""
    x = pre.detach().float().requires_grad_()
    y = type(activation).forward(activation, x.clone())  # a copy, which it may write over
    (derivative,) = torch.autograd.grad(y.sum(), x)
    return derivative.abs() < NO_GRADIENT


def _everywhere(values: Tensor, axis: int, holds: Callable[[Tensor], Tensor]) -> int:
    """For how many units it holds at every sample and place. Few units are left to look at after a few samples."""
    others = [other for other in range(values.dim()) if other != axis]
    left = holds(values[:FIRST_SAMPLES]).to(torch.uint8).amin(others).nonzero().flatten()
    if len(left) and len(values) > FIRST_SAMPLES:
        rest = values[FIRST_SAMPLES:].index_select(axis, left)
        return int(holds(rest).to(torch.uint8).amin(others).sum())
    return len(left)


def unit_axis(layer: Layer, values: Tensor) -> int:
    """The axis of the units of a layer's values: of (N, C, H, W) the second, of a linear layer's the last."""
    return values.dim() - 1 if isinstance(layer.weights, nn.Linear) else 1
