"""The data sets. To add one: one function in `catalogue.py`, registered by name.

A factory is `factory(data_dir, **options) -> Dataset`:
    data_dir: the folder where downloads and caches live (a pathlib.Path, made where missing).
    keyword-only parameters: the options that a study may set (`dataset: {name: npz, path: x.npz}`).
Facts given to `register`:
    augment: the augmentation of the training batches that is usual for it, "none" or "crop_flip".
    num_train, num_test, input_shape (channels, height, width), num_classes: what is known before the
        data is there (optional; the plan's estimate uses it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnbench.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

datasets = Registry("data set", __name__)


@dataclass(frozen=True)
class Dataset:
    """A whole data set in memory, as it came.

    *_images: (N, channels, height, width), uint8 (0..255) or float32. *_labels: (N,) int64 in
    0..num_classes-1. fingerprint: hash of the content of all four tensors, hex.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    fingerprint: str
