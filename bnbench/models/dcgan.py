"""DCGAN: a generator and a discriminator of strided convolutions (Radford, Metz & Chintala 2016, arXiv 1511.06434)."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.models import models
from bnbench.models.adversaries import Adversaries
from bnbench.models.layers import Block, NormLayer, bias_needed
from bnbench.norms import norms

#: The slope of the discriminator's leaky ReLU below 0, and the spread of all initial weights (section 4).
SLOPE, STD = 0.2, 0.02
#: The smallest map, from which the generator starts: 4x4 in the paper. Smaller where an image is halved twice only so.
SMALLEST = 4
#: Each network has so many strided convolutions at least: the discriminator's first one has no normalizer.
HALVINGS = 2

NormIn = Annotated[
    Literal["both", "generator", "discriminator", "none"],
    Field(description="which of the two networks has the study's norm; the other has none, and its biases"),
]
RealAndFake = Annotated[
    Literal["separate", "joint"],
    Field(
        description="how the discriminator sees real and made images: in a batch each, with statistics of its own, or "
        "in one"
    ),
]
Width = Annotated[
    int,
    Field(ge=1, le=4096, description="channels at the largest maps; they double where the maps are halved"),
]


@models.register("dcgan", init="normal", std=STD, tasks=("gan",))
def dcgan(
    input_shape: tuple[int, int, int],
    latent: int,
    norm: NormLayer,
    *,
    width: Width = 32,
    norm_in: NormIn = "both",
    real_and_fake: RealAndFake = "separate",
) -> nn.Module:
    """DCGAN: 4x4 convolutions of stride 2; no norm at the generator's end and the discriminator's start.

    Radford et al. 2016 (arXiv 1511.06434), section 3: no pooling, no hidden linear layer, ReLU in the generator and
    tanh at its end, leaky ReLU of slope 0.2 in the discriminator. An image is halved while its sides are even, down to
    4 at least, and twice in any case: 64x64 four times as in the paper, 8x8 down to 2x2. All weights start from
    N(0, 0.02²), gamma at 1 (the authors' code draws it from N(1, 0.02²)).
    """
    sizes = _sizes(input_shape)
    off = NormLayer(norms.get("none"))
    in_generator = norm if norm_in in ("both", "generator") else off
    in_discriminator = norm if norm_in in ("both", "discriminator") else off
    widths = [width * 2**level for level in range(len(sizes) - 1)]
    return Adversaries(
        _generator(input_shape[0], latent, sizes[-1], widths[::-1], in_generator),
        _discriminator(input_shape[0], sizes[-1], widths, in_discriminator),
        input_shape,
        real_and_fake,
    )


def _sizes(input_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Height and width of the image and of every smaller map. Raises BnbenchError where it can't be halved twice."""
    if len(input_shape) != 3:
        raise BnbenchError(
            f"model dcgan: samples of shape {tuple(input_shape)}, and it makes images (channels, height, width).",
            fix="a data set of images, such as digits or mnist.",
        )
    sizes = [(input_shape[1], input_shape[2])]
    while all(side % 2 == 0 for side in sizes[-1]) and (
        min(sizes[-1]) // 2 >= SMALLEST or len(sizes) <= HALVINGS
    ):
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    if len(sizes) <= HALVINGS:
        raise BnbenchError(
            f"model dcgan: images of {input_shape[1]}x{input_shape[2]}, which can't be halved twice.",
            "Its convolutions double the maps from step to step, so that sides are multiples of 4.",
            "images padded or cropped to such sides, such as 28x28 or 32x32.",
        )
    return sizes


def _generator(
    channels: int, latent: int, smallest: tuple[int, int], widths: list[int], norm: NormLayer
) -> nn.Module:
    """Latent vectors to a map of the smallest size, then doubled up to the image. widths: from the smallest map."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["latent"] = nn.Unflatten(1, (latent, 1, 1))
    first = nn.ConvTranspose2d(latent, widths[0], smallest, bias=_biased(norm))
    layers["project"] = _block(first, widths[0], norm, nn.ReLU())
    for level, (n_in, n_out) in enumerate(itertools.pairwise(widths), start=1):
        up = nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1, bias=_biased(norm))
        layers[f"up{level}"] = _block(up, n_out, norm, nn.ReLU())
    last = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)
    layers["image"] = Block(OrderedDict(conv=last, activation=nn.Tanh()))
    return nn.Sequential(layers)


def _discriminator(channels: int, smallest: tuple[int, int], widths: list[int], norm: NormLayer) -> nn.Module:
    """Images, halved down to the smallest map, to one logit each. widths: from the largest map."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    first = nn.Conv2d(channels, widths[0], 4, stride=2, padding=1)
    layers["down1"] = Block(OrderedDict(conv=first, activation=nn.LeakyReLU(SLOPE)))
    for level, (n_in, n_out) in enumerate(itertools.pairwise(widths), start=2):
        down = nn.Conv2d(n_in, n_out, 4, stride=2, padding=1, bias=_biased(norm))
        layers[f"down{level}"] = _block(norm.weights(down), n_out, norm, nn.LeakyReLU(SLOPE))
    layers["head"] = nn.Conv2d(widths[-1], 1, smallest)
    layers["logit"] = nn.Flatten(0)
    return nn.Sequential(layers)


def _biased(norm: NormLayer) -> bool:
    return bias_needed(norm, "relu", "before")


def _block(weights: nn.Module, channels: int, norm: NormLayer, activation: nn.Module) -> Block:
    """Weights, norm and activation. Raises BnbenchError where the norm is made of weights that are not there."""
    if norm.entry.facts.weights and isinstance(weights, nn.ConvTranspose2d):
        raise BnbenchError(
            f"norm {norm.entry.name} in the generator of dcgan.",
            "It changes the weights of linear layers and convolutions, and these are transposed convolutions.",
            "model.norm_in: discriminator, or another norm.",
        )
    after = nn.Identity() if norm.includes_activation else activation
    return Block(OrderedDict(conv=weights, norm=norm(channels, 2), activation=after))
