"""Augmentations of images (N, channels, height, width)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from bnbench.base.errors import BnbenchError
from bnbench.data.augmentations import augmentations

#: Shares of padding in what `crop_flip` gives: beyond the first it is refused, beyond the second noted.
MOSTLY_PADDING, MUCH_PADDING = 0.5, 0.25


@augmentations.register("none")
def none(inputs: Tensor, draw: torch.Generator) -> Tensor:
    """Leaves batches unchanged."""
    return inputs


def padding_share(input_shape: Sequence[int], padding: int) -> float:
    """The expected share of padding in what `crop_flip` gives for inputs of (channels, height, width)."""

    def kept(length: int) -> float:
        shifts = range(-padding, padding + 1)
        return sum(max(0, length - abs(shift)) for shift in shifts) / (length * len(shifts))

    return 1 - kept(input_shape[1]) * kept(input_shape[2])


def _crop_flip_remark(input_shape: Sequence[int], *, padding: int) -> str | None:
    """A note on the share of padding in the training batches, where it is large."""
    if len(input_shape) != 3:
        raise BnbenchError(
            f"augment: crop_flip: the inputs have the shape {tuple(input_shape)}.",
            "It crops and mirrors images of (channels, height, width).",
            "augment: none.",
        )
    share = padding_share(input_shape, padding)
    if share > MOSTLY_PADDING:
        smaller = next(
            (less for less in range(padding, 0, -1) if padding_share(input_shape, less) <= 0.25), 0
        )
        raise BnbenchError(
            f"augment: crop_flip: of inputs of {input_shape[1]}x{input_shape[2]} (height x width), {share:.1%} of "
            "the training pixels would be padding.",
            f"It pads {padding} pixels on each side and crops at a random place.",
            f"augment: none{f', or augment.padding: {smaller}' if smaller else ''}.",
        )
    if share > MUCH_PADDING:
        return f"augment: crop_flip: {share:.0%} of the training pixels are padding, because the inputs are small"
    return None


@augmentations.register("crop_flip", remark=_crop_flip_remark)
def crop_flip(
    inputs: Tensor, draw: torch.Generator, *, padding: Annotated[int, Field(ge=0, le=64)] = 4
) -> Tensor:
    """Pad, crop back to the size at a random place, mirror with probability 1/2 (He et al. 2015, section 4.2).

    Each sample by itself. The padding is 0 in normalised images, which is the mean colour (He et al. pad after
    taking the mean out, too).

    padding: pixels on each side
    """
    count, _, height, width = inputs.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, count), generator=draw)
    mirror = torch.randint(0, 2, (1, count), generator=draw)
    top, left, mirrored = torch.cat((offsets, mirror)).to(inputs.device)
    # every window of the padded images, as a view: (N, C, 2*padding+1, 2*padding+1, H, W)
    windows = pad(inputs, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    crops = windows[torch.arange(count, device=inputs.device), :, top, left]
    return torch.where(mirrored.bool()[:, None, None, None], crops.flip(3), crops)
