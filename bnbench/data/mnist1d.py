"""MNIST-1D, which the package of its authors makes."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bnbench.base.errors import DataError
from bnbench.data import Dataset, datasets
from bnbench.data.tensors import make_dataset


@datasets.register(
    "mnist1d",
    augment="none",
    num_train=4000,
    num_test=1000,
    input_shape=(1, 1, 40),
    num_classes=10,
    embedded=True,
)
def mnist1d(data_dir: Path, *, shuffle: bool = False) -> Dataset:
    """MNIST-1D: ten digits as curves of 40 values (Greydanus & Kobak 2020, arXiv 2011.14439): 4000 and 1000.

    The package mnist1d makes it with its own defaults (seed 42), always the same, and nothing is downloaded:
    pip install 'bnbench[mnist1d]'. The file that its authors share on GitHub is not read.

    shuffle: one fixed permutation of the 40 values, the paper's control without neighbourhoods
    """
    made = _made(shuffle)
    train, test = (
        (torch.from_numpy(np.float32(made[x])).view(-1, 1, 1, 40), torch.from_numpy(np.int64(made[y])))
        for x, y in (("x", "y"), ("x_test", "y_test"))
    )
    return make_dataset("mnist1d", train, test, [str(digit) for digit in range(10)])


def _made(shuffle: bool) -> dict[str, Any]:
    """What the package makes. Raises DataError where it is missing or can't be imported."""
    fix = "pip install 'bnbench[mnist1d]' (from a checkout: pip install '.[mnist1d]'), or dataset: mnist."
    try:
        package = importlib.import_module("mnist1d.data")
    except ModuleNotFoundError as error:
        missing = "its package" if error.name == "mnist1d" else f"the module {error.name} of its package"
        raise DataError(f"dataset: mnist1d: {missing} is not installed.", fix=fix) from error
    except Exception as error:  # whatever the import of plotting libraries raises
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"dataset: mnist1d: its package can't be imported: {type(error).__name__}: {reason}", fix=fix
        ) from error
    settings = package.get_dataset_args()
    settings.shuffle_seq = shuffle
    with _global_streams_as_found():
        made: dict[str, Any] = package.make_dataset(settings)
    return made


@contextmanager
def _global_streams_as_found() -> Iterator[None]:
    """The package seeds NumPy's and Python's global random streams: they are put back."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
