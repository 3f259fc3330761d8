"""Layers that a mended network has in the place of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class LogOfOutput(nn.Module):
    """The logarithm of a network's probabilities: of them a cross-entropy is that of the logits."""

    def __init__(self, network: nn.Module, of_sigmoid: bool) -> None:
        super().__init__()
        self.network, self.of_sigmoid = network, of_sigmoid

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        """The same arguments."""
        outputs: Tensor = self.network(*arguments, **named)
        return outputs.logit(1e-7) if self.of_sigmoid else outputs.clamp(min=1e-30).log()


class Before(nn.Module):
    """Dropout in front of a layer."""

    def __init__(self, layer: nn.Module, rate: float) -> None:
        super().__init__()
        self.dropout, self.layer = nn.Dropout(rate), layer

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        output: Tensor = self.layer(self.dropout(x))
        return output


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position, (N, C, ...)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        output: Tensor = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return output
