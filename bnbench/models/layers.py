"""The blocks that models are built from.

Their biases follow the fairness rule (`bnbench.norms.fairness`). A normalizer that is its own activation gets no second
one. One that acts on more than its own place gets that place (residual branches) and the weights before it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.norms.fairness import needs_bias
from bnbench.norms.norm_layer import NormLayer as NormLayer

Activation = Annotated[
    Literal["relu", "sigmoid", "tanh", "gelu", "none", "linear"],
    Field(
        description="the activation of every block; none, or linear: the network is linear up to its norms"
    ),
]
NormPosition = Annotated[
    Literal["before", "after"], Field(description="whether the norm stands before the activation or after it")
]
Bias = Annotated[
    Literal["auto", "always"],
    Field(
        description="auto: no bias right before a norm that takes it out; always: one in every layer, as in tutorials"
    ),
]

#: Two words for no activation.
_LINEAR = ("none", "linear")
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


def linear_block(
    in_features: int,
    out_features: int,
    norm: NormLayer,
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
) -> Block:
    """Linear, norm and activation; the norm before the activation (as in Ioffe & Szegedy 2015) or after it."""
    needed = bias == "always" or bias_needed(norm, activation, norm_position)
    linear = nn.Linear(in_features, out_features, bias=needed)
    weights = norm.weights(linear, activation)
    return assembled("linear", weights, norm, norm(out_features, 1), activation, norm_position)


def conv_block(
    in_channels: int,
    out_channels: int,
    norm: NormLayer,
    activation: Activation | None = "relu",
    norm_position: NormPosition = "before",
    *,
    stride: int = 1,
    bias: Bias = "auto",
) -> Block:
    """3x3 convolution with padding 1, norm and activation (None: no activation, as before a residual sum)."""
    if activation is None:
        norm = norm.at("branch_end")
    needed = bias == "always" or bias_needed(norm, activation, norm_position)
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=needed)
    weights = norm.weights(conv, activation)
    return assembled("conv", weights, norm, norm(out_channels, 2), activation, norm_position)


def bias_needed(norm: NormLayer, activation: Activation | None, norm_position: NormPosition) -> bool:
    """Whether a bias does something between the weights and this norm: without an activation the norm stands next."""
    without = activation is None or activation in _LINEAR
    return needs_bias(norm.absorbs_bias, "before" if without else norm_position)


def classifier(in_features: int, num_classes: int, norm: NormLayer) -> nn.Linear:
    """The last layer of a network: Linear, without a norm after it."""
    return norm.at("head").weights(nn.Linear(in_features, num_classes))


class Block(nn.Sequential):
    """Weights, norm and activation, in the order of the study."""

    def forward(self, x: Tensor) -> Tensor:
        """All layers in order. Raises BnbenchError where the norm does not keep the shape of its input."""
        for name, module in self.named_children():
            y = module(x)
            if name == "norm" and (not isinstance(y, Tensor) or y.shape != x.shape):
                raise BnbenchError(_wrong_output(module, x, y), fix=_KEEP_SHAPE)
            x = y
        return x


class GlobalAveragePool(nn.Module):
    """(N, C, H, W) -> (N, C): the mean over each map (a plain mean: its gradient is deterministic on GPUs)."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over height and width."""
        return x.flatten(2).mean(-1)


def assembled(
    name: str,
    weights: nn.Module,
    norm: NormLayer,
    layer: nn.Module,
    activation: Activation | None,
    norm_position: NormPosition,
) -> Block:
    """A block of one layer of weights, its normalizer `layer` and the activation. name: of the weights in the block.

    Raises BnbenchError for a normalizer that is its own activation, where another or none should stand.
    """
    if norm.includes_activation and norm_position == "after":
        raise BnbenchError(
            f"norm_position: after, with norm {norm.entry.name}.",
            "This normalizer is its own activation, so no other activation comes before it.",
            "norm_position: before, or a normalizer without an activation.",
        )
    if norm.includes_activation and activation in _LINEAR:
        raise BnbenchError(
            f"activation: {activation}, with norm {norm.entry.name}.",
            "This normalizer is its own activation, so the network would not be linear.",
            "another normalizer, or another activation.",
        )
    needed = activation in _ACTIVATIONS and not norm.includes_activation
    act = _ACTIVATIONS[activation]() if activation and needed else nn.Identity()
    order = [("norm", layer), ("activation", act)]
    if norm_position == "after":
        order.reverse()
    return Block(OrderedDict([(name, weights), *order]))


_KEEP_SHAPE = "a normalizer returns one tensor with the shape of its input, (N, C) or (N, C, H, W)."


def _wrong_output(module: nn.Module, x: Tensor, y: object) -> str:
    got = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
    return f"the norm layer {type(module).__name__} was given {tuple(x.shape)} and returned {got}."
