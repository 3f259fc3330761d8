"""Convolutions that pad with a value for each channel: the one that a folded norm would send to zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd


class ZeroPointPadding(_ConvNd):
    """Base of the three layers below. zero_point: (in channels,), a buffer in the state dict.

    Inside it is the convolution that it was made of, with the same names in the state dict.
    """

    zero_point: Tensor

    def padded(self, x: Tensor) -> Tensor:
        """The input (N, C, ...) or (C, ...) with `zero_point` around it; inside it stays as it is, bit for bit."""
        margins = [int(value) for value in self._reversed_padding_repeated_twice]
        spatial = len(self.kernel_size)
        inside = F.pad(torch.ones_like(x.narrow(-1 - spatial, 0, 1)[:1]), margins)
        value = self.zero_point.reshape(-1, *[1] * spatial)
        return F.pad(x, margins) + value * (1 - inside)


class ZeroPointConv1d(ZeroPointPadding, nn.Conv1d):
    """`nn.Conv1d` that pads each channel with its own value."""

    def forward(self, input: Tensor) -> Tensor:
        """Pad and convolve (N, C, L)."""
        return F.conv1d(
            self.padded(input), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


class ZeroPointConv2d(ZeroPointPadding, nn.Conv2d):
    """`nn.Conv2d` that pads each channel with its own value."""

    def forward(self, input: Tensor) -> Tensor:
        """Pad and convolve (N, C, H, W)."""
        return F.conv2d(
            self.padded(input), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


class ZeroPointConv3d(ZeroPointPadding, nn.Conv3d):
    """`nn.Conv3d` that pads each channel with its own value."""

    def forward(self, input: Tensor) -> Tensor:
        """Pad and convolve (N, C, D, H, W)."""
        return F.conv3d(
            self.padded(input), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


#: The layer that each convolution becomes.
ZERO_POINT_CLASSES: dict[type, type[ZeroPointPadding]] = {
    nn.Conv1d: ZeroPointConv1d,
    nn.Conv2d: ZeroPointConv2d,
    nn.Conv3d: ZeroPointConv3d,
}


def with_zero_point(module: nn.Module) -> None:
    """Make the convolution pad with its own values, zeros at first. The object and its other state stay the same."""
    if isinstance(module, ZeroPointPadding):
        return
    assert isinstance(module, _ConvNd)
    module.__class__ = ZERO_POINT_CLASSES[type(module)]
    module.register_buffer("zero_point", module.weight.new_zeros(module.in_channels))
