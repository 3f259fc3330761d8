"""Residual networks for CIFAR (He et al. 2015, arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from bnbench.models import models
from bnbench.models.layers import GlobalAveragePool, NormLayer, classifier, conv_block
from bnbench.models.normalizer_free import NormalizerFreeBlock, deviation_after, plain_convolution


class Shortcut(nn.Module):
    """Option A of the paper: every second pixel, and zeros for the new channels; no parameters."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + new_channels, H / stride, W / stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.nn.functional.pad(x, (0, 0, 0, 0, 0, self.new_channels)) if self.new_channels else x

    def extra_repr(self) -> str:
        """What the layer list shows."""
        return f"new_channels={self.new_channels}, stride={self.stride}"


class ResidualBlock(nn.Module):
    """relu(x + conv-norm-relu-conv-norm(x))."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormLayer, stride: int) -> None:
        super().__init__()
        norm = norm.at("branch")
        self.first = conv_block(in_channels, out_channels, norm, stride=stride)
        self.second = conv_block(out_channels, out_channels, norm, activation=None)
        changes = stride > 1 or out_channels > in_channels
        self.shortcut = Shortcut(out_channels - in_channels, stride) if changes else nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out: Tensor = self.activation(self.second(self.first(x)) + self.shortcut(x))
        return out


def _six_n_plus_two(depth: int) -> int:
    if depth % 6 != 2:
        below = depth - (depth - 2) % 6
        raise ValueError(
            f"a ResNet of three stages has 6n + 2 layers. Fix: {max(below, 8)} or {max(below, 8) + 6}"
        )
    return depth


Depth = Annotated[int, Field(ge=8, le=1202), AfterValidator(_six_n_plus_two)]
Width = Annotated[int, Field(ge=1, le=10_000)]


@models.register("resnet", init="he", tasks=("image_classification",))
def resnet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    norm: NormLayer,
    *,
    depth: Depth = 20,
    width: Width = 16,
    block: Literal["basic", "nf"] = "basic",
    alpha: Annotated[float, Field(gt=0)] = 0.2,
) -> nn.Module:
    """ResNet for CIFAR (He et al. 2015, section 4.2) of 6n + 2 layers: three stages of n blocks.

    depth: layers of weights, 6n + 2: 8, 14, 20 ... 110
    width: channels of the first stage, 16 in the paper; the others have twice and four times as many
    block: nf: the normalizer-free block of Brock et al. 2021, for norm: scaled_weight_standardization
    alpha: factor on the residual branch of an nf block
    """
    blocks_a_stage = (depth - 2) // 6
    norm = norm.residual(branches=3 * blocks_a_stage, branch_layers=2)
    blocks = nn.Sequential()
    channels, deviation = width, 1.0
    for stage, wider in enumerate((width, 2 * width, 4 * width), start=1):
        for index in range(blocks_a_stage):
            stride = 2 if stage > 1 and index == 0 else 1
            made: nn.Module
            if block == "nf":
                made = NormalizerFreeBlock(channels, wider, norm, stride, alpha, deviation)
                deviation = deviation_after(made)
            else:
                made = ResidualBlock(channels, wider, norm, stride)
            blocks.add_module(f"stage{stage}_{index}", made)
            channels = wider
    stem = plain_convolution if block == "nf" else conv_block
    model = nn.Sequential()
    model.add_module("stem", stem(input_shape[0], width, norm.first()))
    model.add_module("blocks", blocks)
    if block == "nf":
        model.add_module("activation", nn.ReLU())
    model.add_module("pool", GlobalAveragePool())
    model.add_module("head", classifier(channels, num_classes, norm))
    return model


@models.register("resnet20", init="he", tasks=("image_classification",))
def resnet20(input_shape: tuple[int, int, int], num_classes: int, norm: NormLayer) -> nn.Module:
    """ResNet-20 for CIFAR (He et al. 2015): 0.27 million parameters."""
    return resnet(input_shape, num_classes, norm, depth=20)


@models.register("resnet56", init="he", tasks=("image_classification",))
def resnet56(input_shape: tuple[int, int, int], num_classes: int, norm: NormLayer) -> nn.Module:
    """ResNet-56 for CIFAR (He et al. 2015): 0.85 million parameters."""
    return resnet(input_shape, num_classes, norm, depth=56)
