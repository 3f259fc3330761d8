"""From raw tensors to a `Dataset`: the checks that every data set passes, and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from bnbench.data import Dataset
from bnbench.errors import DataError


def make_dataset(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    class_names: Sequence[str],
) -> Dataset:
    """A data set from (images, labels) of its two parts.

    name: what messages call it. images: (N, C, H, W) uint8 or float32; labels: (N,) integers in
    0..len(class_names)-1. Raises DataError where lengths, image shapes or labels do not fit.
    """
    for part, (images, labels) in (("train", train), ("test", test)):
        _check_part(name, part, images, labels, len(class_names))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{name}: a training image has the shape {shape_text(train[0])} and a test image {shape_text(test[0])}.",
            "one network has to take both.",
        )
    tensors = (train[0].contiguous(), train[1].long(), test[0].contiguous(), test[1].long())
    return Dataset(*tensors, class_names=tuple(class_names), fingerprint=fingerprint(*tensors))


def shape_text(images: Tensor) -> str:
    """Channels, height and width of one image, e.g. "3x32x32"."""
    return "x".join(str(size) for size in images.shape[1:])


def fingerprint(*tensors: Tensor) -> str:
    """Hash of the types, shapes and values of CPU tensors: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _check_part(name: str, part: str, images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
        raise DataError(
            f"{name}: {part} images are {images.dtype} of shape {tuple(images.shape)}.",
            "They have to be uint8 or float32 of shape (samples, channels, height, width).",
        )
    if len(images) != len(labels):
        raise DataError(f"{name}: {part} has {len(images)} images and {len(labels)} labels.")
    if not len(images):
        raise DataError(f"{name}: {part} holds no samples.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(f"{name}: {part} has labels from {low} to {high}; 0 to {num_classes - 1} are known.")
