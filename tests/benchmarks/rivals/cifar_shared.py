"""What the rivals of workload B share: their arguments, the network, and the images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BATCH_SIZE = 128
CHANNELS = (3, 32, 64, 128)
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4


@dataclass(frozen=True)
class Arguments:
    """images: an npz with train_images (N, 32, 32, 3) uint8, train_labels, test_images, test_labels."""

    images: Path
    epochs: int
    seed: int
    channels_last: bool
    bf16: bool


def arguments() -> Arguments:
    """The command line that workload_b.py gives to every rival."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    return Arguments(**vars(parser.parse_args()))


def arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels."""
    with np.load(path) as held:
        return tuple(held[name] for name in ("train_images", "train_labels", "test_images", "test_labels"))


def convolutions() -> list[nn.Conv2d]:
    """The three convolutions of bnbench's `cnn`: 3x3, stride 1, 2, 2; no bias, as a batch norm follows."""
    pairs = zip(CHANNELS, CHANNELS[1:], (1, 2, 2), strict=False)
    return [nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False) for n_in, n_out, stride in pairs]


class Mean(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def cnn() -> nn.Sequential:
    blocks: list[nn.Module] = []
    for convolution in convolutions():
        blocks += [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]
    return nn.Sequential(*blocks, Mean(), nn.Linear(CHANNELS[-1], 10))


def sgd(model: nn.Module, total_steps: int) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.LRScheduler]:
    """SGD and the cosine from the learning rate to zero, step by step."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total_steps)
