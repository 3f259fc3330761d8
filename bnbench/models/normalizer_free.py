"""The normalizer-free residual block (Brock, De & Smith 2021, arXiv 2101.08692, section 4)."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn

from bnbench.models.layers import Block, NormLayer, bias_needed, conv_block
from bnbench.norms.skipinit import BranchScale


class NormalizerFreeBlock(nn.Module):
    """shortcut + alpha * g * conv-norm-relu-conv-norm(relu(x) / beta), with a learnt g from 0 (SkipInit).

    beta: the standard deviation of x at the start, known from the blocks before. The shortcut is x itself, or a 1x1
    convolution of relu(x) / beta where the block changes the shape.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: NormLayer, stride: int, alpha: float, beta: float
    ) -> None:
        super().__init__()
        norm = norm.at("branch")
        self.alpha, self.beta = alpha, beta
        self.activation = nn.ReLU()
        self.first = conv_block(in_channels, out_channels, norm, stride=stride)
        self.second = conv_block(out_channels, out_channels, norm, activation=None)
        self.skip_gain = BranchScale()
        self.changes_shape = stride > 1 or in_channels != out_channels
        projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride)
        self.shortcut = norm.weights(projection) if self.changes_shape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = self.activation(x) / self.beta
        shortcut = self.shortcut(out if self.changes_shape else x)
        branch: Tensor = self.skip_gain(self.second(self.first(out)))
        y: Tensor = shortcut + self.alpha * branch
        return y

    def extra_repr(self) -> str:
        """The two factors."""
        return f"alpha={self.alpha:g}, beta={self.beta:.4g}"


def deviation_after(block: NormalizerFreeBlock) -> float:
    """The standard deviation that a block gives out at the start, with a gain of 1: √(beta² + alpha²).

    A block that changes the shape starts again from 1, as its shortcut is a convolution of relu(x) / beta.
    """
    return math.hypot(1.0 if block.changes_shape else block.beta, block.alpha)


def plain_convolution(in_channels: int, out_channels: int, norm: NormLayer) -> Block:
    """The stem: a 3x3 convolution and the norm, without an activation, which the first block begins with."""
    bias = bias_needed(norm, None, "before")
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
    return Block(OrderedDict(conv=norm.weights(conv), norm=norm(out_channels, 2)))
