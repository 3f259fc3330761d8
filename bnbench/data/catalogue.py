"""The data sets with a name of their own. One short function each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from bnbench.base.seeding import generator
from bnbench.data import Dataset, datasets
from bnbench.data.tensors import make_dataset
from bnbench.data.vision import load


@datasets.register(
    "digits",
    augment="none",
    num_train=1437,
    num_test=360,
    input_shape=(1, 8, 8),
    num_classes=10,
    embedded=True,
)
def digits(data_dir: Path) -> Dataset:
    """Handwritten digits, 8x8 gray, 10 classes: 1437 to train, 360 to test. Comes with scikit-learn, no download.

    Pixels are 0..16, as distributed. bnbench defines the split, and it is always the same.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.from_numpy(source.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(source.target)
    order = torch.randperm(len(labels), generator=generator(0, "digits", "test"))
    test, train = order[:360].sort().values, order[360:].sort().values
    names = [str(name) for name in source.target_names]
    return make_dataset("digits", (images[train], labels[train]), (images[test], labels[test]), names)


@datasets.register(
    "mnist", augment="none", num_train=60_000, num_test=10_000, input_shape=(1, 28, 28), num_classes=10
)
def mnist(data_dir: Path) -> Dataset:
    """MNIST: handwritten digits, 28x28 gray, 10 classes (LeCun et al. 1998). Download of 12 MB."""
    return load("MNIST", data_dir)


@datasets.register(
    "fashion_mnist",
    augment="none",
    num_train=60_000,
    num_test=10_000,
    input_shape=(1, 28, 28),
    num_classes=10,
)
def fashion_mnist(data_dir: Path) -> Dataset:
    """Fashion-MNIST: clothes, 28x28 gray, 10 classes (Xiao et al. 2017). Download of 31 MB."""
    return load("FashionMNIST", data_dir)


@datasets.register(
    "kmnist", augment="none", num_train=60_000, num_test=10_000, input_shape=(1, 28, 28), num_classes=10
)
def kmnist(data_dir: Path) -> Dataset:
    """Kuzushiji-MNIST: cursive Japanese, 28x28 gray, 10 classes (Clanuwat et al. 2018). Download of 21 MB."""
    return load("KMNIST", data_dir)


@datasets.register(
    "cifar10", augment="crop_flip", num_train=50_000, num_test=10_000, input_shape=(3, 32, 32), num_classes=10
)
def cifar10(data_dir: Path) -> Dataset:
    """CIFAR-10: photographs, 32x32 colour, 10 classes (Krizhevsky 2009). Download of 170 MB."""
    return load("CIFAR10", data_dir)


@datasets.register(
    "cifar100",
    augment="crop_flip",
    num_train=50_000,
    num_test=10_000,
    input_shape=(3, 32, 32),
    num_classes=100,
)
def cifar100(data_dir: Path) -> Dataset:
    """CIFAR-100: photographs, 32x32 colour, 100 classes (Krizhevsky 2009). Download of 169 MB."""
    return load("CIFAR100", data_dir)


@datasets.register(
    "svhn", augment="none", num_train=73_257, num_test=26_032, input_shape=(3, 32, 32), num_classes=10
)
def svhn(data_dir: Path) -> Dataset:
    """SVHN: house numbers from the street, 32x32 colour, 10 classes (Netzer et al. 2011). Download of 246 MB."""
    return load("SVHN", data_dir)


@datasets.register("gaussian", augment="none", embedded=True)
def gaussian(
    data_dir: Path,
    *,
    features: Annotated[int, Field(ge=1, le=100_000)] = 500,
    classes: Annotated[int, Field(ge=2, le=1000)] = 10,
    samples: Annotated[int, Field(ge=20, le=100_000)] = 2000,
) -> Dataset:
    """White noise: independent N(0, 1) features and labels drawn at random, so that there is nothing to learn.

    For a look at a network at initialization, whose theory assumes such inputs. A sample is an image of one row.

    features: numbers in a sample
    classes: how many labels there are
    samples: to train; a fifth as many to test
    """
    noise = generator(0, "gaussian")

    def part(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(classes, (size,), generator=noise)
        return torch.randn(size, 1, 1, features, generator=noise), labels

    names = [str(label) for label in range(classes)]
    return make_dataset("gaussian", part(samples), part(max(classes, samples // 5)), names)
