"""A normalizer over tokens: inputs (N, T, C), of which a mask says what is padding."""

from __future__ import annotations

import inspect

from torch import Tensor, nn


class TokenNorm(nn.Module):
    """A layer for (N, C), over every position of every sequence: x (N, T, C) to the same.

    layer: it sees the positions as N * T samples. takes_mask: whether it is called with a mask (N * T,), True where
    the position is valid; a layer that takes none counts padding as it counts any position. whole_sequences: it sees
    (N, C, T) instead, as its parts are made of whole sequences; such a layer takes no mask.
    """

    def __init__(self, layer: nn.Module, takes_mask: bool = False, whole_sequences: bool = False) -> None:
        super().__init__()
        self.layer, self.takes_mask, self.whole_sequences = layer, takes_mask, whole_sequences

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize (N, T, C). mask: (N, T) bool, True where valid; None: no padding. A plain (N, C) works, too."""
        if self.whole_sequences and x.dim() == 3:
            y: Tensor = self.layer(x.transpose(1, 2)).transpose(1, 2)
            return y
        rows = x.reshape(-1, x.shape[-1])
        y = self.layer(rows, mask.reshape(-1)) if self.takes_mask and mask is not None else self.layer(rows)
        return y.reshape(x.shape)

    def extra_repr(self) -> str:
        """What the layer sees."""
        words = ["takes_mask"] * self.takes_mask + ["whole_sequences"] * self.whole_sequences
        return ", ".join(f"{word}=True" for word in words)


def has_mask_argument(layer: nn.Module) -> bool:
    """Whether the layer's forward has an argument `mask`."""
    return "mask" in forward_arguments(layer)


def forward_arguments(layer: nn.Module) -> list[str]:
    """The names of the arguments of the layer's forward; none where they can't be read."""
    try:
        return list(inspect.signature(layer.forward).parameters)
    except (TypeError, ValueError):
        return []
