"""The blocks that models are built from, and the one place that knows the fairness rule.

Fairness: where the normalizer makes a bias right before it redundant, the bias goes; where there is
no such normalizer, the bias comes back. So `none` is a full network, and no variant carries dead weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from bnbench.registry import Entry

Activation = Literal["relu", "sigmoid", "tanh", "gelu"]
NormPosition = Literal["before", "after"]
Bias = Literal["auto", "always"]
"""auto: by the fairness rule; always: a bias in every layer, as tutorials write it."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


@dataclass(frozen=True)
class NormLayer:
    """A registered normalizer with its options, ready to be built at any width."""

    entry: Entry
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def absorbs_bias(self) -> bool:
        """Whether a bias right before it can't have any effect."""
        return bool(self.entry.facts.get("absorbs_bias"))

    def __call__(self, num_features: int, dim: Literal[1, 2]) -> nn.Module:
        """The layer for inputs (N, C) where dim is 1, (N, C, H, W) where dim is 2."""
        module = self.entry.factory(num_features, dim, **self.options)
        assert isinstance(module, nn.Module)
        return module


def linear_block(
    in_features: int,
    out_features: int,
    norm: NormLayer,
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
) -> nn.Sequential:
    """Linear, norm and activation; the norm before the activation (as in Ioffe & Szegedy 2015) or after it."""
    needed = bias == "always" or _needs_bias(norm, norm_position)
    linear = nn.Linear(in_features, out_features, bias=needed)
    return _block("linear", linear, norm(out_features, 1), _ACTIVATIONS[activation](), norm_position)


def conv_block(
    in_channels: int,
    out_channels: int,
    norm: NormLayer,
    activation: Activation | None = "relu",
    norm_position: NormPosition = "before",
    *,
    stride: int = 1,
    bias: Bias = "auto",
) -> nn.Sequential:
    """3x3 convolution with padding 1, norm and activation (None: no activation, as before a residual sum)."""
    needed = bias == "always" or _needs_bias(norm, norm_position if activation else "before")
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=needed)
    act = _ACTIVATIONS[activation]() if activation else nn.Identity()
    return _block("conv", conv, norm(out_channels, 2), act, norm_position)


class GlobalAveragePool(nn.Module):
    """(N, C, H, W) -> (N, C): the mean over each map (a plain mean: its gradient is deterministic on GPUs)."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over height and width."""
        return x.flatten(2).mean(-1)


def _needs_bias(norm: NormLayer, norm_position: NormPosition) -> bool:
    return not (norm.absorbs_bias and norm_position == "before")


def _block(
    name: str, weights: nn.Module, norm: nn.Module, activation: nn.Module, norm_position: NormPosition
) -> nn.Sequential:
    order = [("norm", norm), ("activation", activation)]
    if norm_position == "after":
        order.reverse()
    return nn.Sequential(OrderedDict([(name, weights), *order]))
