"""What an augmentation adds to a step: processor time for 128 images of 3x32x32 bytes, one thread, the median of 15.

python tests/benchmarks/augmentation_cost.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from bnbench.base.seeding import generator
from bnbench.data.augmentations import augmentation_of
from bnbench.data.sample_transforms import Pixels
from bnbench.study import Choice

MEASURED: Mapping[str, dict[str, Any]] = {
    "crop_flip": {},
    "RandomHorizontalFlip": {},
    "RandomCrop": {"padding": 4},
    "RandomResizedCrop": {},
    "ColorJitter": {"brightness": 0.2},
    "RandomRotation": {"degrees": 15},
    "RandAugment": {},
    "AugMix": {},
}


def milliseconds(name: str, options: dict[str, Any], repeats: int = 15) -> float:
    """The median for one batch."""
    augmentation = augmentation_of(Choice(name=name, options=options))
    assert augmentation
    pixels = Pixels(torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 60.0), are_bytes=True)
    draw = generator(0, "cost")
    inputs, targets = torch.randn(128, 3, 32, 32, generator=draw), torch.zeros(128, dtype=torch.long)
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        augmentation.augmented(inputs, targets, draw, pixels)
        seconds.append(time.thread_time() - start)
    return 1000 * statistics.median(seconds)


def main() -> None:
    """One line each."""
    torch.set_num_threads(1)
    for name, options in MEASURED.items():
        print(f"{name:22} {milliseconds(name, options):7.1f} ms")


if __name__ == "__main__":
    main()
