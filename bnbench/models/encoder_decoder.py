"""Encoders of images into a few numbers and their mirrored decoders: the halves of `autoencoder` and `vae`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.models.layers import (
    Activation,
    Bias,
    NormLayer,
    NormPosition,
    assembled,
    conv_block,
    linear_block,
)

Shape = tuple[int, ...]
Units = Annotated[int, Field(ge=1, le=1_000_000)]
Channels = Annotated[list[Units], Field(min_length=1, max_length=100)]
Hidden = Annotated[list[Units], Field(max_length=100)]
Latent = Annotated[int, Field(ge=1, le=1_000_000)]
Network = Annotated[Literal["conv", "mlp"], Field(description="conv: 3x3 convolutions; mlp: fully connected")]


@dataclass(frozen=True)
class Design:
    """The options that encoder and decoder share. channels: of conv; hidden: of mlp."""

    network: Network
    channels: Sequence[int]
    hidden: Sequence[int]
    activation: Activation
    norm_position: NormPosition
    bias: Bias


def check_latent(model: str, latent: int, input_shape: Shape) -> None:
    """Raises BnbenchError where the code would be larger than the image."""
    values = prod(input_shape)
    if latent > values:
        raise BnbenchError(
            f"model.latent: {latent}, and a sample has {values} value{'s' if values > 1 else ''}.",
            f"The code of {model} would be larger than what it encodes.",
            f"model.latent: {max(1, values // 8)}"
            + (f", or any number up to {values}." if values > 1 else "."),
        )


def encoder(input_shape: Shape, outputs: int, norm: NormLayer, design: Design) -> nn.Sequential:
    """(N, C, H, W) to (N, outputs): each convolution has stride 2; the last layer is Linear, without a norm."""
    made = nn.Sequential()
    if design.network == "mlp":
        sizes = [prod(input_shape), *design.hidden]
        made.add_module("flatten", nn.Flatten())
        made.add_module("blocks", _linear_blocks(sizes, norm, design, reads_data=True))
        features = sizes[-1]
    else:
        maps = map_sizes(input_shape, design.channels)
        blocks = [
            conv_block(
                n_in,
                n_out,
                norm.first(i),
                design.activation,
                design.norm_position,
                stride=2,
                bias=design.bias,
            )
            for i, (n_in, n_out) in enumerate(pairwise([input_shape[0], *design.channels]))
        ]
        made.add_module("blocks", nn.Sequential(*blocks))
        made.add_module("flatten", nn.Flatten())
        features = design.channels[-1] * prod(maps[-1])
    made.add_module("code", norm.at("head").weights(nn.Linear(features, outputs)))
    return made


def decoder(input_shape: Shape, latent: int, norm: NormLayer, design: Design) -> nn.Sequential:
    """(N, latent) to (N, C, H, W), the encoder mirrored: nearest neighbours double the maps, then a convolution.

    The last layer has no norm and no activation.
    """
    made = nn.Sequential()
    head = norm.at("head")
    if design.network == "mlp":
        sizes = [latent, *reversed(design.hidden)]
        made.add_module("blocks", _linear_blocks(sizes, norm, design))
        made.add_module("head", head.weights(nn.Linear(sizes[-1], prod(input_shape))))
        made.add_module("unflatten", nn.Unflatten(1, tuple(input_shape)))
        return made
    maps = map_sizes(input_shape, design.channels)
    channels = list(design.channels)
    blocks = nn.Sequential(_projection(latent, (channels[-1], *maps[-1]), norm, design))
    for (n_in, n_out), size in zip(pairwise(reversed(channels)), reversed(maps[1:-1]), strict=True):
        blocks.append(nn.Upsample(size=size, mode="nearest"))
        blocks.append(
            conv_block(n_in, n_out, norm, design.activation, design.norm_position, bias=design.bias)
        )
    made.add_module("blocks", blocks)
    made.add_module("upsample", nn.Upsample(size=maps[0], mode="nearest"))
    made.add_module("head", head.weights(nn.Conv2d(channels[0], input_shape[0], 3, padding=1)))
    return made


def _linear_blocks(
    sizes: Sequence[int], norm: NormLayer, design: Design, reads_data: bool = False
) -> nn.Sequential:
    blocks = [
        linear_block(
            n_in,
            n_out,
            norm.first(i) if reads_data else norm,
            design.activation,
            design.norm_position,
            design.bias,
        )
        for i, (n_in, n_out) in enumerate(pairwise(sizes))
    ]
    return nn.Sequential(*blocks)


def _projection(latent: int, shape: Shape, norm: NormLayer, design: Design) -> nn.Module:
    """The code as maps: Linear, then norm and activation over maps.

    A norm over a map takes out one number a channel, and the bias has one for each pixel: it stays.
    """
    weights = norm.weights(nn.Linear(latent, prod(shape)), design.activation)
    maps = nn.Sequential(OrderedDict(linear=weights, unflatten=nn.Unflatten(1, shape)))
    return assembled("maps", maps, norm, norm(shape[0], 2), design.activation, design.norm_position)


def map_sizes(input_shape: Shape, channels: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width before each halving and after the last. Raises BnbenchError where there is nothing to halve."""
    size = (input_shape[1], input_shape[2])
    sizes = [size]
    for index in range(len(channels)):
        if min(size) < 2:
            fewer = f"model.channels with at most {index} numbers, or " if index else ""
            raise BnbenchError(
                f"model.channels: {list(channels)}, and an image is {input_shape[1]} high and {input_shape[2]} wide.",
                f"Every convolution halves it, and a map of {size[0]}x{size[1]} can't be halved.",
                f"{fewer}model.network: mlp.",
            )
        size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        sizes.append(size)
    return sizes
