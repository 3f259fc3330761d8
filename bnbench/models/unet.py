"""A small U-Net (Ronneberger et al. 2015, arXiv 1505.04597), for noisy images with their step as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.time_channel import Timed, split_time
from bnbench.models import models
from bnbench.models.layers import Activation, Bias, NormLayer, NormPosition, conv_block

#: The longest period of the sinusoids (Vaswani et al. 2017, section 3.5).
LONGEST = 10_000


class TimeEmbedding(nn.Module):
    """Sinusoids of the step (Vaswani et al. 2017, section 3.5), then Linear, SiLU, Linear, SiLU (Ho et al. 2020)."""

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        half = features // 2
        self.register_buffer(
            "frequencies", torch.exp(-math.log(LONGEST) * torch.arange(half) / half), persistent=False
        )
        self.first, self.activation = nn.Linear(2 * half, features), nn.SiLU()
        self.second = nn.Linear(features, features)

    def forward(self, steps: Tensor) -> Tensor:
        """(N,) to (N, features)."""
        angles = steps[:, None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        out: Tensor = self.activation(self.second(self.activation(self.first(waves))))
        return out


@dataclass(frozen=True)
class Style:
    """What all blocks share. time: features of the embedded step, 0 without one."""

    norm: NormLayer
    activation: Activation
    norm_position: NormPosition
    bias: Bias
    time: int


class Level(nn.Module):
    """Two blocks of convolution, norm and activation. The embedded step is added between them, a number a channel."""

    def __init__(self, in_channels: int, channels: int, style: Style, *, reads_data: bool = False) -> None:
        super().__init__()
        first = style.norm.first() if reads_data else style.norm
        kind = style.activation, style.norm_position
        self.first = conv_block(in_channels, channels, first, *kind, bias=style.bias)
        self.time = nn.Linear(style.time, channels) if style.time else None
        self.second = conv_block(channels, channels, style.norm, *kind, bias=style.bias)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H, W)."""
        x = self.first(x)
        if self.time is not None:
            x = x + self.time(time)[:, :, None, None]
        out: Tensor = self.second(x)
        return out


class UNet(nn.Module):
    """Levels down, each at half the size, a level at the bottom, and levels up that also see those down."""

    def __init__(self, shape: tuple[int, ...], outputs: int, width: int, depth: int, style: Style) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        inputs = [shape[0], *widths]
        self.time = TimeEmbedding(style.time) if style.time else None
        self.down = nn.ModuleList(Level(inputs[i], widths[i], style, reads_data=i == 0) for i in range(depth))
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.bottom = Level(inputs[depth], widths[depth], style, reads_data=depth == 0)
        self.up = nn.ModuleList(
            Level(widths[i + 1] + widths[i], widths[i], style) for i in reversed(range(depth))
        )
        self.head = style.norm.at("head").weights(nn.Conv2d(width, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), or (N, C + 1, H, W) with the step, to (N, outputs, H, W)."""
        time = None
        if self.time is not None:
            x, steps = split_time(x)
            time = self.time(steps)
        seen = []
        for level in self.down:
            x = level(x, time)
            seen.append(x)
            x = self.pool(x)
        x = self.bottom(x, time)
        for level in self.up:
            beside = seen.pop()
            x = nn.functional.interpolate(x, size=beside.shape[2:], mode="nearest")
            x = level(torch.cat([x, beside], 1), time)
        out: Tensor = self.head(x)
        return out


@models.register("unet", init="torch", tasks=("denoising", "segmentation"))
def unet(
    input_shape: tuple[int, ...],
    num_outputs: int,
    norm: NormLayer,
    *,
    width: Annotated[int, Field(ge=1, le=10_000)] = 16,
    depth: Annotated[int, Field(ge=0, le=10)] = 2,
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
) -> nn.Module:
    """U-Net (Ronneberger et al. 2015): an output at every pixel; of any height and width that can be halved.

    An odd side is halved upwards (mean of what is there), and the way up comes back to it. For denoising the step is
    embedded and added in every level, after its first norm (Ho et al. 2020, appendix B). No norm at the output.

    width: channels of the first level; every further one has twice as many
    depth: how often the image is halved
    """
    height, wide = input_shape[1:]
    most = math.ceil(math.log2(min(height, wide))) if min(height, wide) > 1 else 0
    if depth > most:
        raise BnbenchError(
            f"model.depth: {depth}, and an image is {height} high and {wide} wide.",
            f"It can be halved {most} time{'' if most == 1 else 's'}.",
            f"model.depth: {most}." if most else "larger images, or model: mlp.",
        )
    time = 4 * width if isinstance(input_shape, Timed) else 0
    return UNet(input_shape, num_outputs, width, depth, Style(norm, activation, norm_position, bias, time))
