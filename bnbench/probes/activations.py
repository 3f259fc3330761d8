"""What enters and leaves the activations of the probe batch: their distributions, and the units that do nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Layer, Row, Rows
from bnbench.probes.numbers import MOST, distributions, percentiles
from bnbench.probes.together import OfAll, Together

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
    return inside.rows(_of_all)


def _of_all(replicas: Together) -> OfAll:
    passed, layers = replicas.passed, {layer.name: layer for layer in replicas.layers}
    values = {(name, "pre"): of_all for name, of_all in passed.pre.items()}
    values |= {(name, "post"): of_all for name, of_all in passed.post.items()}
    found = distributions(values, replicas.count, replicas.detailed)
    hidden = [name for name, layer in layers.items() if layer.hidden]
    counts = {name: MANY_UNITS if name in hidden[-1:] else FEW_UNITS for name in layers}
    _units(found, layers, passed.pre, counts, {percent: f"unit_p{percent}" for percent in UNIT_PERCENTILES})
    if replicas.detailed:  # how far the medians lie apart without an update
        _units(found, layers, replicas.other_pre, counts, {50: "unit_p50_other"})
    for name, of_all in passed.post.items():
        _idle(found, layers[name], passed.pre[name], of_all)
    return found


def _units(
    found: OfAll,
    layers: Mapping[str, Layer],
    values: Mapping[str, Tensor],
    counts: Mapping[str, int],
    quantities: Mapping[float, str],
) -> None:
    """Add the percentiles of single units (of a convolution: channels), over samples and places."""
    groups: dict[int, list[tuple[str, list[int], Any]]] = {}
    for name, of_all in values.items():
        units = some_units(of_all.shape[unit_axis(layers[name], of_all)], counts[name])
        of_units = unit_values(layers[name], of_all, units)
        groups.setdefault(of_units.shape[-1], []).append((name, units, of_units))
    for group in groups.values():
        numbers = percentiles(np.concatenate([of_units for _, _, of_units in group], 1), tuple(quantities))
        start = 0
        for name, units, _ in group:
            part = np.moveaxis(numbers[:, start : start + len(units)], -1, 1).tolist()
            start += len(units)
            for rows, of_replica in zip(found, part, strict=True):
                for quantity, of_units in zip(quantities.values(), of_replica, strict=True):
                    rows.append(Rows(name, quantity, units, of_units))


@lru_cache(256)
def some_units(total: int, count: int) -> list[int]:
    """The numbers of so many of a layer's units, evenly spaced from the first to the last."""
    count = min(total, count)
    return [round(index * (total - 1) / max(1, count - 1)) for index in range(count)]


def unit_values(layer: Layer, values: Tensor, units: Sequence[int]) -> Any:
    """The values (S, ...) of some units over samples and places as (S, units, values), float32 on the CPU.

    Of more than `MOST_OF_A_UNIT` values, that many, evenly spaced.
    """
    by_unit = values.movedim(unit_axis(layer, values), -1)
    replicas, *sizes, total = by_unit.shape
    places = math.prod(sizes)
    if places <= MOST_OF_A_UNIT:
        rows = by_unit.reshape(replicas, places, total)
    else:
        some: Any = np.unravel_index(some_units(places, MOST_OF_A_UNIT), sizes)
        rows = by_unit[(slice(None), *some)]
    if len(units) < total:
        rows = rows[..., torch.tensor(units, device=rows.device)]
    return rows.mT.float().cpu().numpy()


def _idle(found: OfAll, layer: Layer, pre: Tensor, post: Tensor) -> None:
    """Add the shares of units that pass no gradient for any sample and place or are saturated, and of such values.

    Which of the two an activation has depends on its class; a linear one, or one of a user's own, has neither.
    """
    axis, kind = unit_axis(layer, post), type(layer.activation)
    units, shares = post.shape[axis], dict[str, list[float]]()
    if kind is nn.ReLU:
        shares["dead_share"] = _everywhere(post, axis, lambda values: values == 0)
    elif kind in RELU_FAMILY and layer.activation is not None:
        shares["dead_share"] = _everywhere(pre, axis, partial(_passes_none, layer.activation))
    elif kind in BOUNDED:
        low, high = BOUNDED[kind]
        middle, half = (low + high) / 2, (high - low) / 2

        def saturated(values: Tensor) -> Tensor:
            return (values - middle).abs() > half * (1 - 2 * SATURATED)

        shares["saturated_share"] = _everywhere(post, axis, saturated)
        shares["saturated_values"] = [float(saturated(part).float().mean()) for part in post]
    for index, rows in enumerate(found):
        rows.append(Row(layer.name, "units", float(units)))
        for name, of_replicas in shares.items():
            rows.append(Row(layer.name, name, of_replicas[index]))


@torch.enable_grad()
def _passes_none(activation: nn.Module, pre: Tensor) -> Tensor:
    """Where the activation's derivative is 0, or as good as that."""
    x = pre.detach().float().requires_grad_()
    y = type(activation).forward(activation, x.clone())  # a copy, which it may write over
    (derivative,) = torch.autograd.grad(y.sum(), x)
    return derivative.abs() < NO_GRADIENT


def _everywhere(values: Tensor, axis: int, holds: Callable[[Tensor], Tensor]) -> list[float]:
    """Of each replica (S, N, ...), the share of units for which it holds at every sample and place."""
    others = [other for other in range(1, values.dim()) if other != axis]
    if values[0].numel() <= MOST:
        found: list[float] = holds(values).to(torch.uint8).amin(others).double().mean(1).tolist()
        return found
    return [_of_one(part, axis - 1, [other - 1 for other in others], holds) for part in values]


def _of_one(values: Tensor, axis: int, others: list[int], holds: Callable[[Tensor], Tensor]) -> float:
    """The same of one replica. Few units are left to look at after a few samples."""
    units = values.shape[axis]
    left = holds(values[:FIRST_SAMPLES]).to(torch.uint8).amin(others).nonzero().flatten()
    if len(left) and len(values) > FIRST_SAMPLES:
        rest = values[FIRST_SAMPLES:].index_select(axis, left)
        return int(holds(rest).to(torch.uint8).amin(others).sum()) / units
    return len(left) / units


def unit_axis(layer: Layer, values: Tensor) -> int:
    """The axis of the units of a layer's values (S, N, ...): behind the samples; of a linear layer or tokens the last.

    Values of tokens are (S, N, T, C), also behind a convolution over them; of images (S, N, C, H, W).
    """
    of_tokens = not isinstance(layer.weights, nn.Conv1d) and values.dim() == 4
    return values.dim() - 1 if of_tokens or isinstance(layer.weights, nn.Linear) else 2
