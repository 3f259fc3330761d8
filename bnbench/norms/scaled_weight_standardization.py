"""Scaled weight standardization: layers that keep the size of their input (Brock et al. 2021, arXiv 2101.08692)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.place import PLAIN, Place

#: The least sum of squares of a unit's centred weights, as in the authors' code.
LEAST_SQUARES = 1e-4

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
}


@cache
def activation_gain(activation: str) -> float:
    """γ = 1 / √Var(g(z)) for a standard normal z: √2 / √(1 - 1/π) = 1.7129 for relu; 1 for no activation.

    For the smooth ones by the trapezoidal rule, exact to 1e-12.
    """
    if activation == "relu":
        return math.sqrt(2 / (1 - 1 / math.pi))
    if activation not in _FUNCTIONS:
        return 1.0
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)
    y = _FUNCTIONS[activation](z)
    mean = (y * weight).sum() / weight.sum()
    return 1 / math.sqrt(float(((y - mean).square() * weight).sum() / weight.sum()))


def scaled(weight: Tensor, gain: Tensor, factor: float) -> Tensor:
    """Mean 0 and sum of squares factor² * gain² over the fan-in of each output: (out, ...), (out,) to the same."""
    axes = tuple(range(1, weight.dim()))
    centred = weight - weight.mean(axes, keepdim=True)
    squares = centred.square().sum(axes, keepdim=True).clamp(min=LEAST_SQUARES)
    return centred * (torch.rsqrt(squares) * gain.reshape(-1, *[1] * len(axes)) * factor)


class ScaledStandardizedConv2d(nn.Conv2d):
    """torch.nn.Conv2d with scaled standardized weights: a learnt gain for each output, times `factor`."""

    def __init__(self, *arguments: Any, factor: float = 1.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.factor, self.gain = factor, nn.Parameter(torch.ones(len(self.weight)))

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) as torch.nn.Conv2d."""
        out: Tensor = self._conv_forward(input, scaled(self.weight, self.gain, self.factor), self.bias)
        return out

    def extra_repr(self) -> str:
        """The arguments of the convolution, and the factor."""
        return f"{super().extra_repr()}, factor={self.factor:.4g}"  # type: ignore[no-untyped-call]


class ScaledStandardizedLinear(nn.Linear):
    """torch.nn.Linear with scaled standardized weights: a learnt gain for each output, times `factor`."""

    def __init__(self, *arguments: Any, factor: float = 1.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.factor, self.gain = factor, nn.Parameter(torch.ones(len(self.weight)))

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_features) as torch.nn.Linear."""
        return nn.functional.linear(input, scaled(self.weight, self.gain, self.factor), self.bias)

    def extra_repr(self) -> str:
        """The arguments of the layer, and the factor."""
        return f"{super().extra_repr()}, factor={self.factor:.4g}"


def scaled_layer(layer: nn.Conv2d | nn.Linear, place: Place) -> nn.Conv2d | nn.Linear:
    """The same layer with scaled standardized weights; the classifier stays as it is.

    Raises BnbenchError for one weight an output: without its mean it is 0, whatever it is.
    """
    if place.role == "head":
        return layer
    if layer.weight[0].numel() == 1:
        raise BnbenchError(
            "norm scaled_weight_standardization on a layer with one weight an output: standardized, it is always 0.",
            fix="a model with more than 1 input to each layer, or norm: group.",
        )
    factor = 1.0 if place.reads_data else activation_gain(place.activation)
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return ScaledStandardizedLinear(layer.in_features, layer.out_features, bias=bias, factor=factor)
    return ScaledStandardizedConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        padding_mode=layer.padding_mode,
        bias=bias,
        factor=factor,
    )


@norms.register("scaled_weight_standardization", absorbs_bias=False, takes_place=True, weights=scaled_layer)
def scaled_weight_standardization(num_features: int, dim: int, place: Place = PLAIN) -> nn.Module:
    """Scaled weight standardization: no normalizer, but weights that keep the variance of what comes in.

    Brock, De & Smith 2021 (arXiv 2101.08692), section 4: the weights of each output are γ g (w - mean) / √(N var) over
    its N inputs, with a learnt gain g from 1. γ makes up for the activation before the layer, 1.7129 for relu, and is 1
    for the layer that reads the data; the classifier stays as it is. The sum N var is at least 1e-4, as in the
    authors' code. Made for residual networks with `model: {name: resnet, block: nf}`.
    """
    return nn.Identity()
