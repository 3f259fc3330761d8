"""Dropout (Srivastava et al. 2014) at a chosen place, with masks from a stream of the layer's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from bnbench.base.ranks import own_part, whole_shape
from bnbench.base.seeding import generator
from bnbench.base.stacked import Parameters, StackedLayer, aligned, stacks
from bnbench.models.layers import Bias, Block


@dataclass(frozen=True)
class Dropout:
    """Where a network drops values in training, and with which probability."""

    p: Annotated[float, Field(ge=0, lt=1, description="probability that a value becomes 0")] = 0.5
    place: Annotated[
        Literal["before_norm", "after_norm", "last"],
        Field(
            description="right before the norm of every block, right after it, or before the last layer alone"
        ),
    ] = "last"


def _no_number(value: Any) -> Any:
    """Raises ValueError for `dropout: 0.5`, which names no place."""
    if isinstance(value, int | float):
        p = value if 0 < value < 1 else 0.5
        raise ValueError(f"it should be a mapping. Fix: dropout: {{p: {p:g}, place: last}}")
    return value


DropoutOption = Annotated[
    Dropout | None,
    BeforeValidator(_no_number),
    Field(description="{p: 0.5, place: before_norm, after_norm or last}; none: no dropout"),
]


class SeededDropout(nn.Module):
    """Each value becomes 0 with probability p, else it is divided by 1 - p; in evaluation nothing happens.

    noise_seed (a buffer, drawn again by reset_noise, from torch's global generator) and num_masks, the masks drawn so
    far, determine the next mask, which is drawn on the CPU: reproducible on any device, and a state dict brings the
    masks to come back. Layers of the same name have the same masks in every variant of a seed, shape by shape.
    """

    noise_seed: Tensor
    num_masks: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.register_buffer("noise_seed", torch.randint(2**62, ()))
        self.register_buffer("num_masks", torch.tensor(0))

    def reset_noise(self) -> None:
        """Another seed for the masks."""
        self.noise_seed.random_(2**62)

    def mask(self, shape: Sequence[int]) -> Tensor:
        """The next mask, on the CPU: 0 or 1 / (1 - p), float32."""
        draw = generator(int(self.noise_seed), "mask", int(self.num_masks))
        self.num_masks += 1
        kept = torch.rand(whole_shape(tuple(shape)), generator=draw)[own_part(shape[0])] >= self.p
        return kept.float() / (1 - self.p)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return x * self.mask(x.shape).to(x.device, x.dtype) if self.training else x

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


@stacks(SeededDropout)
class StackedDropout(StackedLayer):
    """The masks of every replica at once."""

    def __init__(self, modules: Sequence[SeededDropout], parameters: Parameters) -> None:
        self.modules = modules

    def forward(self, x: Tensor) -> Tensor:
        """Times the masks."""
        self._masks = aligned(x.shape, x)
        for module, mask in zip(self.modules, self._masks, strict=True):
            mask.copy_(module.mask(x.shape[1:]))
        return torch.mul(x, self._masks, out=aligned(x.shape, x))

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """Times the same masks."""
        return torch.mul(grad, self._masks, out=aligned(grad.shape, grad)) if needed else grad

    def why_not_graphed(self) -> str:
        """Its masks come from the CPU."""
        return "draws its masks step by step"


def bias_beside(dropout: Dropout | None, bias: Bias) -> Bias:
    """The biases of a block. Dropout right before a norm changes what a bias adds: no norm absorbs it any more."""
    return "always" if _is_at(dropout, "before_norm") else bias


def with_dropout(block: Block, dropout: Dropout | None) -> Block:
    """The block with its dropout beside the norm, if it has any there; the other layers keep their names."""
    if dropout is None or not (_is_at(dropout, "before_norm") or _is_at(dropout, "after_norm")):
        return block
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in block.named_children():
        pair = [(name, layer)]
        if name == "norm":
            pair.insert(0 if dropout.place == "before_norm" else 1, ("dropout", SeededDropout(dropout.p)))
        layers.update(pair)
    return Block(layers)


def add_last(model: nn.Sequential, dropout: Dropout | None) -> None:
    """Add the dropout before the last layer, if there is any."""
    if dropout is not None and _is_at(dropout, "last"):
        model.add_module("dropout", SeededDropout(dropout.p))


def _is_at(dropout: Dropout | None, place: str) -> bool:
    """Whether a dropout layer stands there. With p: 0 none is built, so that no number changes."""
    return dropout is not None and dropout.p > 0 and dropout.place == place
