"""Sequences that differ in length. Oracles: NumPy's mean and std over the valid numbers; arrays by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.base.errors import DataError
from bnbench.base.tokens import split_valid
from bnbench.data import Dataset, datasets
from bnbench.data.normalisation import Normalize
from bnbench.data.prepared import Preparation, Prepared
from bnbench.data.split import Sampling
from bnbench.study import Choice
from bnbench.tasks import task_of

TASK = Choice(name="text_classification")


def arrays(**changes: Any) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    values: dict[str, Any] = {
        "x_train": draw.normal(3, 2, (20, 5, 2)),
        "lengths_train": draw.integers(1, 6, 20),
        "y_train": np.arange(20) % 2,
        "x_test": draw.normal(3, 2, (6, 5, 2)),
        "lengths_test": draw.integers(1, 6, 6),
        "y_test": np.arange(6) % 2,
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


def load(folder: Path, **changes: Any) -> Dataset:
    np.savez(folder / "s.npz", **arrays(**changes))
    return datasets.get("sequences").factory(folder, path=folder / "s.npz")  # type: ignore[no-any-return]


def prepared(data: Dataset, normalize: Normalize = "standard") -> Prepared:
    sampling = Sampling("sample", 0.2, 0)
    return task_of(TASK).prepare(data, Preparation(sampling, TASK, normalize), torch.device("cpu"))


def test_padding_is_zero_and_has_a_column_of_its_own(tmp_path: Path) -> None:
    data, given = load(tmp_path), arrays()
    numbers, mask = split_valid(data.train_inputs)
    assert mask.sum(1).tolist() == given["lengths_train"].tolist()
    assert not numbers[~mask].any()
    assert np.allclose(numbers[mask], given["x_train"][mask.numpy()].astype(np.float32))
    assert data.train_inputs.shape == (20, 5, 3)


def test_sequences_one_after_the_other_are_the_same_data(tmp_path: Path) -> None:
    given = arrays()
    flat = {
        f"x_{part}": np.concatenate(
            [x[:n] for x, n in zip(given[f"x_{part}"], given[f"lengths_{part}"], strict=True)]
        )
        for part in ("train", "test")
    }
    assert load(tmp_path, **flat).fingerprint == load(tmp_path).fingerprint


def test_numbers_are_normalised_over_the_valid_positions_of_train(tmp_path: Path) -> None:
    data = load(tmp_path)
    made = prepared(data)
    batch = made.train_batch(torch.arange(len(made.train_targets)))
    numbers, mask = split_valid(batch)
    assert torch.allclose(numbers[mask].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(numbers[mask].std(0, correction=0), torch.ones(2), atol=1e-5)
    assert not numbers[~mask].any()
    assert torch.equal(batch[..., -1], made.train_inputs[..., -1])
    raw, valid = split_valid(made.train_inputs)
    center, scale = raw[valid].double().mean(0), raw[valid].double().std(0, correction=0)
    other, held = split_valid(data.test_inputs)
    expected = ((other - center) / scale)[held]
    found, found_mask = split_valid(made.test_inputs)
    assert sorted(found[found_mask].flatten().tolist()) == pytest.approx(
        sorted(expected.flatten().tolist()), abs=1e-5
    )


def test_unit_divides_by_the_largest_valid_number(tmp_path: Path) -> None:
    made = prepared(load(tmp_path), "unit")
    numbers, mask = split_valid(made.train_batch(torch.arange(len(made.train_targets))))
    assert float(numbers[mask].abs().max()) == pytest.approx(1)


def test_a_test_part_with_longer_sequences_pads_the_training_part(tmp_path: Path) -> None:
    longer = np.zeros((6, 9, 2))
    data = load(tmp_path, x_test=longer, lengths_test=np.full(6, 9))
    assert data.train_inputs.shape == (20, 9, 3)
    assert data.train_inputs[:, 5:].abs().sum() == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lengths_train": np.zeros(20, int)}, "A mask of zeros has no mean"),
        ({"lengths_train": np.full(20, 6)}, "the longest of lengths_train is 6"),
        ({"lengths_train": np.full(20, 2.5)}, "Each sequence has one length, a whole number"),
        ({"lengths_train": np.full(3, 2)}, "lengths_train of shape (20,)"),
        ({"lengths_test": None}, "lengths_test is missing, and another part has lengths"),
        (
            {"x_test": np.zeros((0, 5, 2)), "lengths_test": np.zeros(0, int), "y_test": np.zeros(0)},
            "y_test is empty",
        ),
        (
            {"lengths_train": None, "lengths_test": None, "x_train": np.zeros((40, 2))},
            "there is no lengths_train",
        ),
        ({"x_train": np.full((20, 5, 2), np.nan)}, "NaN or infinite"),
        ({"x_train": np.full((20, 5, 2), "a")}, "not numbers"),
        ({"x_test": np.zeros((6, 5, 3))}, "2 in x_train, 3 in x_test"),
        ({"y_test": np.full(6, 7)}, "y_test has labels that y_train lacks"),
        ({"y_train": np.zeros(20)}, "only one class"),
        ({"y_train": None}, "y_train is missing"),
        ({"x_val": np.zeros((2, 5, 2))}, "of x_val and y_val one is missing"),
        ({"x_train": np.array([np.zeros((2, 2))] * 20 + [1], object)[:20]}, "np.concatenate the sequences"),
    ],
)
def test_files_that_can_not_be_used(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, **changes)
    assert words in str(caught.value)


def test_nan_behind_the_end_of_a_sequence_is_padding(tmp_path: Path) -> None:
    given = arrays()
    x, valid = given["x_train"], np.arange(5) < given["lengths_train"][:, None]
    assert (
        load(tmp_path, x_train=np.where(valid[..., None], x, np.nan)).fingerprint
        == load(tmp_path).fingerprint
    )


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    factory = datasets.get("sequences").factory
    with pytest.raises(DataError, match="does not exist"):
        factory(tmp_path, path=tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"text.npz is no .npz file"):
        factory(tmp_path, path=tmp_path / "text.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(DataError, match="it is damaged"):
        factory(tmp_path, path=tmp_path / "bad.npz")
