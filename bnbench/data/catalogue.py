"""The data sets with a name of their own. One short function each."""

from __future__ import annotations

import math
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


@datasets.register("diabetes", task="tabular_regression", embedded=True)
def diabetes(data_dir: Path) -> Dataset:
    """Progress of diabetes in a year from 10 features: 353 patients to train, 89 to test. Comes with scikit-learn.

    Age, sex, body mass index, blood pressure and six blood values as they were measured (Efron et al. 2004, Least
    angle regression); the target is a number from 25 to 346. bnbench defines the split, and it is always the same.
    """
    from sklearn.datasets import load_diabetes

    source = load_diabetes(scaled=False)
    targets = torch.from_numpy(source.target).double().unsqueeze(1)
    return _rows("diabetes", torch.from_numpy(source.data), targets, [])


@datasets.register("breast_cancer", task="tabular", embedded=True)
def breast_cancer(data_dir: Path) -> Dataset:
    """Malignant or benign from 30 features of cell nuclei: 455 samples to train, 114 to test. Comes with scikit-learn.

    Means, standard errors and largest values of ten measures (Street, Wolberg & Mangasarian 1993). bnbench defines the
    split, and it is always the same.
    """
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer()
    names = [str(name) for name in source.target_names]
    return _rows("breast_cancer", torch.from_numpy(source.data), torch.from_numpy(source.target), names)


def _rows(name: str, features: torch.Tensor, targets: torch.Tensor, names: list[str]) -> Dataset:
    """A fifth of the rows to test, a fixed draw; every feature is a channel."""
    order = torch.randperm(len(targets), generator=generator(0, name, "test"))
    count = math.ceil(len(targets) / 5)
    test, train = order[:count].sort().values, order[count:].sort().values
    rows = features.float()[:, :, None, None]
    return make_dataset(name, (rows[train], targets[train]), (rows[test], targets[test]), names)


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
