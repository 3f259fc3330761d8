"""Drawn shapes with a class at every pixel, so that a segmentation can be tried without a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from bnbench.base.seeding import generator
from bnbench.data import Dataset, datasets
from bnbench.data.targets import MASKS
from bnbench.data.tensors import make_dataset

NAMES = ("background", "disc", "square", "cross")
#: Shapes in an image, and the noise of a pixel on a scale of 0 to 1.
SHAPES, NOISE = 3, 0.25


@datasets.register("shapes", task=MASKS, embedded=True)
def shapes(
    data_dir: Path,
    *,
    size: Annotated[int, Field(ge=8, le=256)] = 24,
    samples: Annotated[int, Field(ge=20, le=20_000)] = 600,
) -> Dataset:
    """Discs, squares and crosses of any gray on noise, with the class of every pixel: drawn by bnbench, no download.

    An image has three shapes of a random size, place and gray, of which a later one covers an earlier one. A fifth as
    many images to test.

    size: height and width
    samples: images to train
    """
    draw = generator(0, "shapes", size)
    train, test = _images(samples, size, draw), _images(max(4, samples // 5), size, draw)
    return make_dataset("shapes", train, test, NAMES)


def _images(count: int, size: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 1, size, size) uint8, masks (N, size, size) int64."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = torch.zeros(count, size, size, dtype=torch.int64)
    grays = torch.full((count, size, size), 0.5)
    for _ in range(SHAPES):
        kind = torch.randint(1, len(NAMES), (count, 1, 1), generator=draw)
        radius = size * (0.1 + 0.12 * torch.rand(count, 1, 1, generator=draw))
        center = size * (0.15 + 0.7 * torch.rand(2, count, 1, 1, generator=draw))
        down, right = (rows - center[0]).abs(), (columns - center[1]).abs()
        inside = torch.stack(
            [
                down.square() + right.square() <= radius.square(),
                torch.maximum(down, right) <= 0.85 * radius,
                (torch.minimum(down, right) <= 0.3 * radius) & (torch.maximum(down, right) <= 1.2 * radius),
            ]
        ).gather(0, (kind - 1).expand(1, count, size, size).contiguous())[0]
        gray = torch.rand(count, 1, 1, generator=draw).expand(count, size, size)
        masks = torch.where(inside, kind, masks)
        grays = torch.where(inside, gray, grays)
    noisy = grays + NOISE * torch.randn(count, size, size, generator=draw)
    return (noisy.clamp(0, 1) * 255).round().to(torch.uint8).unsqueeze(1), masks
