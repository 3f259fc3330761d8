"""Corruptions of images: brightness, contrast, noise, blur. Values are on a scale of 0 to 255."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from bnbench.base.errors import DataError
from bnbench.data.corruptions import corruptions

#: How many standard deviations of a Gaussian blur are computed.
_REACH = 4


@corruptions.register("brightness")
def brightness(
    images: Tensor,
    draw: torch.Generator,
    *,
    factor: Annotated[float, Field(ge=0)] = 1.0,
    shift: Annotated[float, Field(ge=-255, le=255)] = 0.0,
) -> Tensor:
    """Darker or brighter images: factor * x + shift.

    factor: below 1 is darker
    shift: added after the factor, in steps of a scale of 0 to 255
    """
    if factor == 1 and shift == 0:
        raise DataError(
            "brightness: factor 1 and shift 0 change nothing.",
            fix="a factor such as 0.5, or a shift such as -64.",
        )
    return factor * images + shift


@corruptions.register("contrast")
def contrast(images: Tensor, draw: torch.Generator, *, factor: Annotated[float, Field(ge=0)] = 0.5) -> Tensor:
    """Less or more contrast: each image's mean stays, its differences from the mean are multiplied by the factor.

    factor: below 1 is less contrast
    """
    mean = images.flatten(1).mean(1).reshape(-1, *[1] * (images.ndim - 1))
    return (images - mean) * factor + mean


@corruptions.register("gaussian_noise")
def gaussian_noise(
    images: Tensor, draw: torch.Generator, *, std: Annotated[float, Field(gt=0, le=1000)] = 25.0
) -> Tensor:
    """Normal noise, drawn for each value by itself.

    std: its standard deviation, in steps of a scale of 0 to 255
    """
    return images + std * torch.randn(images.shape, generator=draw, dtype=images.dtype)


@corruptions.register("blur")
def blur(
    images: Tensor, draw: torch.Generator, *, sigma: Annotated[float, Field(gt=0, le=100)] = 1.0
) -> Tensor:
    """Gaussian blur; the border repeats the outermost pixels.

    sigma: its standard deviation in pixels
    """
    height, width = images.shape[2:] if images.ndim == 4 else (1, 1)
    if images.ndim != 4 or height == width == 1:
        raise DataError(
            f"blur: samples of shape {tuple(images.shape[1:])} are no images.",
            "It mixes a pixel with its neighbours.",
            "gaussian_noise, brightness or contrast.",
        )
    reach = math.ceil(_REACH * sigma)
    at = torch.arange(-reach, reach + 1, dtype=images.dtype)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    channels = images.shape[1]
    for shape, pad in (((-1, 1), (0, 0, reach, reach)), ((1, -1), (reach, reach, 0, 0))):
        weight = kernel.reshape(1, 1, *shape).expand(channels, 1, -1, -1)
        images = functional.conv2d(functional.pad(images, pad, mode="replicate"), weight, groups=channels)
    return images
