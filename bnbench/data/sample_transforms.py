"""Transforms of one image, as torchvision has them, on whole batches: every sample draws for itself.

A transform of `torchvision.transforms.v2` draws one set of parameters a call, and from torch's global generator. So
each image of a batch is a call of its own, in a private seeded state of the global generators.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bnbench.base.errors import BnbenchError
from bnbench.base.process_state import seeded

Transform = Callable[..., Any]
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Pixels:
    """What normalised inputs are as pixels, and whether their targets are masks.

    center, scale: (C, 1, 1), of the normalisation; None where inputs are as they came. are_bytes: they came as uint8.
    masks: targets are (N, H, W), a class at every pixel.
    """

    center: Tensor | None
    scale: Tensor | None
    are_bytes: bool
    masks: bool = False

    def shown(self, inputs: Tensor) -> Tensor:
        """Images that came as bytes as those bytes, (N, C, H, W) uint8; others as they are, normalised. On the CPU."""
        if not self.are_bytes:
            return inputs.cpu()
        values = inputs if self.center is None or self.scale is None else inputs * self.scale + self.center
        return values.round().clamp(0, 255).to(torch.uint8).cpu()

    def normalised(self, images: Tensor, like: Tensor) -> Tensor:
        """The inverse of `shown`: the same operations as for a batch that was never shown, so the same bits."""
        values = images.to(like.device, like.dtype)
        if not self.are_bytes or self.center is None or self.scale is None:
            return values
        return values.sub_(self.center).div_(self.scale)


@dataclass(frozen=True)
class Named:
    """A transform of one image (C, H, W), or of an image and its mask, with the name that a study has for it."""

    name: str
    apply: Callable[..., Any]


def transformed(
    transform: Named, inputs: Tensor, targets: Tensor, draw: torch.Generator, pixels: Pixels
) -> tuple[Tensor, Tensor]:
    """Inputs (N, C, H, W) and targets after this transform, each sample by itself.

    draw: gives one number a batch, the seed of the private state. Masks move with their images; what comes into view
    at the edge is IGNORED there. Works on the CPU, so that every device has the same numbers. Raises BnbenchError where
    a result has another shape or type.
    """
    images = pixels.shown(inputs)
    seed = int(torch.randint(2**62, (), generator=draw))
    with seeded(seed, CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of masks that a transform leaves alone
        if pixels.masks:
            pairs = [_with_mask(transform, *pair) for pair in zip(images, targets.cpu(), strict=True)]
            results, masks = [image for image, _ in pairs], [mask for _, mask in pairs]
            targets = torch.stack(masks).to(targets.device)
        else:
            results = [_checked(transform, image, transform.apply(image)) for image in images]
    return pixels.normalised(torch.stack(results), inputs), targets


def _with_mask(transform: Named, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    from torchvision import tv_tensors

    pair = transform.apply(image, tv_tensors.Mask(mask))
    if not (isinstance(pair, tuple) and len(pair) == 2):
        raise BnbenchError(
            f"augment: {transform.name}: it makes {type(pair).__name__} of an image and its mask.",
            "A mask has to move with its image.",
            "a transform that takes (image, mask) and gives both, as those of torchvision.transforms.v2 do.",
        )
    return _checked(transform, image, pair[0]), _checked(transform, mask, pair[1])


def _checked(transform: Named, before: Tensor, after: Any) -> Tensor:
    """The result as a plain tensor. Raises BnbenchError where a sample has changed its shape or type."""
    if not isinstance(after, Tensor):
        raise BnbenchError(
            f"augment: {transform.name}: it makes {type(after).__name__} of an image.",
            "An image is a tensor (channels, height, width).",
            "leave out transforms to PIL images, such as ToPILImage.",
        )
    if after.shape == before.shape and after.dtype == before.dtype:
        return after.as_subclass(Tensor)
    what = (
        f"augment: {transform.name}: it makes {after.dtype} of shape {tuple(after.shape)} of an image of "
        f"{before.dtype} and shape {tuple(before.shape)}."
    )
    if after.shape != before.shape:
        height, width = before.shape[-2:]
        fix = f"a crop back (size: [{height}, {width}]), or image_size of the data set."
        raise BnbenchError(what, "A network takes images of one size.", fix)
    why = "bnbench converts and normalises images after the augmentation."
    raise BnbenchError(what, why, "leave out ToDtype, ConvertImageDtype and Normalize.")
