"""A normalizer that was chosen: it makes its layers, at any width and place of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.base.registry import Entry
from bnbench.norms.fairness import absorbs_bias
from bnbench.norms.owner import mark
from bnbench.norms.place import Place, Role
from bnbench.norms.tokens import TokenNorm, has_mask_argument

Weights = TypeVar("Weights", nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class NormLayer:
    """A registered normalizer with its options, ready to be built at any width and place."""

    entry: Entry
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place = field(default_factory=Place)

    @property
    def absorbs_bias(self) -> bool:
        """Whether a bias right before it can't have any effect."""
        return absorbs_bias(self.entry, self.options)

    @property
    def includes_activation(self) -> bool:
        """Whether the layer is its own activation."""
        return bool(self.entry.facts.includes_activation)

    def residual(self, branches: int, branch_layers: int) -> NormLayer:
        """For a network with so many residual branches, of so many layers of weights each."""
        return replace(self, place=Place("trunk", branches, branch_layers))

    def with_attention(self) -> NormLayer:
        """For a network that has queries and keys."""
        return replace(self, place=replace(self.place, attention=True))

    def at(self, role: Role) -> NormLayer:
        """For another place of the same network."""
        return replace(self, place=replace(self.place, role=role))

    def first(self, index: int = 0) -> NormLayer:
        """For the first layer of weights, where index is 0, which reads the data; else as it is."""
        return self if index else replace(self, place=replace(self.place, reads_data=True))

    def __call__(self, num_features: int, dim: Literal[1, 2]) -> nn.Module:
        """The layer for inputs (N, C) where dim is 1, (N, C, H, W) where dim is 2.

        Raises BnbenchError for a plain network where the normalizer is for residual ones, and for one without attention
        where it is for queries and keys; TypeError where the factory returns no module.
        """
        facts, name = self.entry.facts, self.entry.name
        if facts.residual_only and not self.place.branches:
            raise BnbenchError(
                f"norm {name} is not supported by this model.",
                "It acts on residual branches, and this is a plain network.",
                "norm: none, or, for images with classes, a residual model such as resnet20.",
            )
        if facts.queries_and_keys and not self.place.attention:
            raise BnbenchError(
                f"norm {name} is not supported by this model.",
                "It normalizes the queries and keys of attention, and this network has none.",
                "model: transformer (or vit, for images), or norm: rms.",
            )
        place = (self.place,) if facts.takes_place else ()
        module = self.entry.factory(num_features, dim, *place, **self.options)
        if not isinstance(module, nn.Module):
            raise TypeError(f"norm {name}: its factory returned {module!r}, not a torch.nn.Module.")
        return mark(module, name, (name, num_features, dim, tuple(self.options.items()), self.place))

    def tokens(self, num_features: int) -> TokenNorm:
        """The layer for tokens (N, T, C), called `layer(x)` or `layer(x, mask)`, mask (N, T), True where valid.

        It is the layer for (N, C) over the N * T positions, one gamma and beta a channel.
        Raises BnbenchError where the normalizer has no meaning there, and as a call does.
        """
        facts, name = self.entry.facts, self.entry.name
        if facts.not_over_tokens:
            why, fix = facts.not_over_tokens
            raise BnbenchError(f"norm {name} can't be used over tokens (N, T, C).", why, fix)
        layer = self(num_features, 1)
        takes_mask = has_mask_argument(layer) if facts.takes_mask is None else facts.takes_mask
        tokens = TokenNorm(layer, takes_mask, facts.whole_sequences)
        mark(tokens, name)
        return tokens

    def weights(self, layer: Weights, activation: str | None = "relu") -> Weights:
        """A layer of weights as the normalizer wants it: most leave it as it is. activation: the network's."""
        prepare = self.entry.facts.weights
        place = replace(self.place, activation=activation or "relu")
        prepared: Weights = prepare(layer, place) if prepare else layer
        return prepared
