"""MNIST-1D: what the authors' package makes, and what is said without it."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.base.errors import DataError
from bnbench.data.mnist1d import mnist1d


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package with the interface of the authors': it seeds the global streams and draws from them."""
    module = ModuleType("mnist1d.data")

    def make_dataset(settings: Any) -> dict[str, Any]:
        random.seed(settings.seed)
        np.random.seed(settings.seed)
        order = np.random.permutation(40) if settings.shuffle_seq else np.arange(40)
        xs = np.random.randn(50, 40)[:, order]
        ys = np.random.permutation(np.arange(50) % 10)
        return {"x": xs[:40], "y": ys[:40], "x_test": xs[40:], "y_test": ys[40:]}

    vars(module).update(
        get_dataset_args=lambda: SimpleNamespace(seed=42, shuffle_seq=False), make_dataset=make_dataset
    )
    monkeypatch.setitem(sys.modules, "mnist1d", ModuleType("mnist1d"))
    monkeypatch.setitem(sys.modules, "mnist1d.data", module)
    return module


def test_it_is_the_packages_data_and_the_global_streams_stay(package: ModuleType, tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).rand()
    data = mnist1d(tmp_path)
    assert (random.random(), np.random.rand()) == expected
    made = vars(package)["make_dataset"](SimpleNamespace(seed=42, shuffle_seq=False))
    np.testing.assert_array_equal(data.train_inputs.numpy()[:, 0, 0], np.float32(made["x"]))
    np.testing.assert_array_equal(data.test_targets.numpy(), made["y_test"])
    assert data.train_inputs.shape == (40, 1, 1, 40)
    assert data.train_inputs.dtype == torch.float32
    assert mnist1d(tmp_path).fingerprint == data.fingerprint != mnist1d(tmp_path, shuffle=True).fingerprint


@pytest.mark.parametrize(
    ("loaded", "words"), [(False, "its package"), (True, "the module mnist1d.data of its package")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    loaded: bool, words: str, package: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "mnist1d.data")
    if loaded:
        monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    else:
        monkeypatch.delitem(sys.modules, "mnist1d")
        monkeypatch.setattr(sys, "path", [])
    with pytest.raises(DataError, match=f"dataset: mnist1d: {words} is not installed") as caught:
        mnist1d(tmp_path)
    assert "pip install 'bnbench[mnist1d]'" in str(caught.value)


def test_the_real_package(tmp_path: Path) -> None:
    """4000 curves of 40 values for training, 1000 for testing, whitened as a whole, ten classes."""
    pytest.importorskip("mnist1d")
    data = mnist1d(tmp_path)
    assert (data.train_inputs.shape, data.test_inputs.shape) == ((4000, 1, 1, 40), (1000, 1, 1, 40))
    whole = torch.cat([data.train_inputs, data.test_inputs]).double()
    assert (float(whole.mean()), float(whole.std())) == pytest.approx((0, 1), abs=1e-3)
    assert data.train_targets.bincount().sum() + data.test_targets.bincount().sum() == 5000
    assert (data.train_targets.bincount() + data.test_targets.bincount()).tolist() == [500] * 10
