"""Replicas that are measured together: every number of a measure once for all of them, as a step of a stack is.

A measure that comes as `once(inside, of_all)` gets a `Together`, whose tensors have one more axis in front, the
replica. A network that trains alone is one replica.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from torch import Tensor, nn


class Row(NamedTuple):
    """One number. unit: which unit, bin or other part of the layer it is about; None for the whole layer."""

    layer: str
    quantity: str
    value: float
    unit: str | int | None = None


class Rows(NamedTuple):
    """Many numbers of one quantity, one for each unit: in place of as many rows, which take longer to make."""

    layer: str
    quantity: str
    units: Sequence[str | int]
    values: Sequence[float]


@dataclass(frozen=True)
class Layer:
    """A layer of weights with what belongs to it. Layers of two variants correspond where their names are equal.

    name: its dotted name, such as "blocks.0" or "head". path: that of its weights, such as "blocks.0.linear". depth:
    its number from 1, in the order of the network. weights: the linear or convolution layer. norm, activation: behind
    it, None where there is none. hidden: whether other layers come behind it, so that it is not the head.
    norm_activates: the norm is its own activation. scale_invariant: whether the network gives the same where its
    weight is multiplied by a positive number, because a norm directly behind takes the scale out; scales_with_bias:
    where its bias is multiplied as well, and not otherwise.
    """

    name: str
    path: str
    depth: int
    weights: nn.Module
    norm: nn.Module | None = None
    activation: nn.Module | None = None
    hidden: bool = True
    norm_activates: bool = False
    scale_invariant: bool = False
    scales_with_bias: bool = False

    @property
    def weight_name(self) -> str:
        """The name of the layer's weight in the network, such as "blocks.0.linear.weight"."""
        return f"{self.path}.weight"

    @property
    def parameter(self) -> Tensor:
        """The layer's weight: a parameter, or what a parametrization makes of one."""
        weight: Tensor = self.weights.weight  # type: ignore[assignment]
        return weight

    @property
    def weight(self) -> Tensor:
        """Its values."""
        return self.parameter.detach()


#: The rows of every replica.
OfAll = list[list[Row | Rows]]
Made = TypeVar("Made")


@dataclass(frozen=True)
class PassOfAll:
    """One forward and backward pass of every replica, each with its own probe batch: see `Pass`, tensors (S, ...)."""

    pre: Mapping[str, Tensor]
    post: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor | None]
    pre_gradients: Mapping[str, Sequence[float]]
    losses: Sequence[float]


@dataclass(frozen=True, eq=False)
class Together:
    """S replicas of one architecture after `step` updates.

    layers: of the first replica's copy; all: from one of its tensors to the values (S, ...) of that tensor in every
    replica. passed: the pass over the probe batches. other_pre: what enters the activations with the other batches.
    before: the layers' weights (S, ...) before the last update, by name. See `Inside` for the rest.
    """

    count: int
    layers: tuple[Layer, ...]
    step: int
    planned: int
    detailed: bool
    lr: float
    rates: Mapping[str, float]
    before: Mapping[str, Tensor]
    all: Callable[[Tensor], Tensor]
    make_pass: Callable[[], PassOfAll]
    make_other_pre: Callable[[], Mapping[str, Tensor]]
    _made: dict[Callable[..., object], object] = field(default_factory=dict)

    @property
    def passed(self) -> PassOfAll:
        """Made once for all measures of this step. It moves running statistics of the copies."""
        return self.once(self.make_pass, self.make_pass)

    @property
    def other_pre(self) -> Mapping[str, Tensor]:
        """Made once. It moves running statistics of the copies."""
        return self.once(self.make_other_pre, self.make_other_pre)

    def weight(self, layer: Layer) -> Tensor:
        """The layer's weights (S, ...)."""
        return self.all(layer.parameter).detach()

    def rate(self, name: str) -> float:
        """The learning rate of that parameter in the next update."""
        return self.lr * self.rates.get(name, 1.0)

    def once(self, key: Callable[..., object], make: Callable[[], Made]) -> Made:
        """What `make` gives, which is called for the first replica that asks."""
        if key not in self._made:
            self._made[key] = make()
        found: Made = self._made[key]  # type: ignore[assignment]
        return found
