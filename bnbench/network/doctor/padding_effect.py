"""Padding inside statistics: sequences with more padding at the end, and what of it reaches valid positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.network.doctor.passes import training_flags
from bnbench.network.doctor.untouched import called, main_output, untouched

#: What is equal in float32, relative to the size of the values.
_EQUAL = 1e-4


@dataclass(frozen=True)
class PaddingEffect:
    """name: of the first normalizer that moves valid positions, "" where none does.

    moved: the largest difference at a position that was equal before it, in standard deviations of its output.
    output: the root mean square difference of the network's output, in standard deviations; NaN where it can't be
    compared.
    """

    name: str
    moved: float
    output: float


def padding_effect(model: nn.Module, pair: tuple[Any, Any], norms: Mapping[str, nn.Module]) -> PaddingEffect:
    """Compare training-mode passes of the same sequences with less and with more padding. Noise is off.

    pair: the inputs (see `padded_pair`). norms: the normalizers by name. Leaves the model as it was.
    """
    plain, first = _recorded(model, pair[0], norms)
    padded, second = _recorded(model, pair[1], norms)
    output = _apart(first, second)
    for (name, x, y), (other, longer_x, longer_y) in zip(plain, padded, strict=False):
        if name != other:
            break  # the network took another path
        moved = _moved((x, y), (longer_x, longer_y))
        if moved > 100 * _EQUAL:
            return PaddingEffect(name, moved, output)
    return PaddingEffect("", 0.0, output)


Call = tuple[str, Tensor, Tensor]


def _recorded(
    model: nn.Module, inputs: Any, norms: Mapping[str, nn.Module]
) -> tuple[Sequence[Call], Tensor | None]:
    """Input and output of each call of a normalizer, in order, and the network's output."""
    calls: list[Call] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            if arguments and isinstance(arguments[0], Tensor) and isinstance(output, Tensor):
                calls.append((name, arguments[0].detach().clone(), output.detach().clone()))

        return hook

    with untouched(model) as device, torch.no_grad(), ExitStack() as stack:
        training = training_flags(model)
        model.eval()
        for name, module in norms.items():
            for inner in module.modules():
                inner.training = training[inner]
            stack.callback(module.register_forward_hook(note(name)).remove)
        output = main_output(called(model, inputs, device))
    return calls, None if output is None else output.detach()


def _moved(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    """The largest difference of outputs where the inputs are equal, in standard deviations of the output."""
    (x, y), (longer_x, longer_y) = one, other
    if x.shape != y.shape or x.ndim != longer_x.ndim or longer_x.shape != longer_y.shape:
        return 0.0
    axes = [axis for axis in range(x.ndim) if x.shape[axis] != longer_x.shape[axis]]
    if len(axes) > 1 or (axes and x.shape[axes[0]] > longer_x.shape[axes[0]]):
        return 0.0
    for axis in axes:
        longer_x, longer_y = (value.narrow(axis, 0, x.shape[axis]) for value in (longer_x, longer_y))
    same = (x - longer_x).abs() <= _EQUAL * (1e-6 + x.abs())
    if not same.any():
        return 0.0
    apart = (y - longer_y).abs().masked_fill(~same, 0.0).max()
    return float(apart / y.std().clamp(min=1e-12))


def _apart(one: Tensor | None, other: Tensor | None) -> float:
    if one is None or other is None or one.ndim != other.ndim:
        return float("nan")
    axes = [axis for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]]
    for axis in axes:
        other = other.narrow(axis, 0, one.shape[axis]) if other.shape[axis] > one.shape[axis] else other
    if one.shape != other.shape:
        return float("nan")
    return float((one - other).square().mean().sqrt() / one.std().clamp(min=1e-12))
