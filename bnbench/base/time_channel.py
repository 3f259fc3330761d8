"""Images with the step of a diffusion process: (N, C + 1, H, W), whose last channel is the step everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


class Timed(tuple[int, ...]):
    """The shape (C, H, W) of images that come with the channel of their step: a network's sign to read it."""

    __slots__ = ()


def with_time(images: Tensor, steps: Tensor) -> Tensor:
    """Images (N, C, H, W) and steps (N,) in one tensor (N, C + 1, H, W), of the images' type."""
    plane = steps.to(images.dtype).reshape(-1, 1, 1, 1).expand(-1, 1, *images.shape[2:])
    return torch.cat([images, plane], 1)


def split_time(x: Tensor) -> tuple[Tensor, Tensor]:
    """The images (N, C, H, W) and the steps (N,)."""
    return x[:, :-1], x[:, -1, 0, 0]
