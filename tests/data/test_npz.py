"""The user's own arrays: what is read, and what is said where they can't be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.npz import npz

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 4, 5), np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


def write(folder: Path, **changes: Any) -> Path:
    """A good file, but for the changes; None leaves a key out."""
    arrays = {"x_train": X, "y_train": Y, "x_test": X[:3], "y_test": Y[:3]} | changes
    path = folder / "data.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def read(folder: Path, **changes: Any) -> Dataset:
    return npz(folder, path=write(folder, **changes))


def error(folder: Path, **changes: Any) -> str:
    """The message without the path that it begins with."""
    with pytest.raises(DataError) as caught:
        read(folder, **changes)
    start = f"{folder / 'data.npz'}: "
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


def test_gray_bytes_stay_bytes(tmp_path: Path) -> None:
    data = read(tmp_path)
    assert data.train_inputs.dtype == torch.uint8
    np.testing.assert_array_equal(data.train_inputs.numpy(), X[:, None])
    assert data.train_targets.tolist() == Y.tolist()
    assert data.test_targets.tolist() == [0, 1, 2]
    assert data.class_names == ("0", "1", "2")


def test_channels_come_last_in_the_file_and_first_in_the_tensor(tmp_path: Path) -> None:
    colour = RNG.random((6, 4, 5, 3))
    data = read(tmp_path, x_train=colour, x_test=colour[:3])
    assert data.train_inputs.dtype == torch.float32
    assert data.train_inputs.shape == (6, 3, 4, 5)
    np.testing.assert_allclose(data.train_inputs[2, 1].numpy(), colour[2, :, :, 1], rtol=1e-7)


def test_flat_features_become_channels_of_one_pixel(tmp_path: Path) -> None:
    flat = RNG.normal(size=(6, 7))
    data = read(tmp_path, x_train=flat, x_test=flat[:3])
    assert data.train_inputs.shape == (6, 7, 1, 1)
    np.testing.assert_allclose(data.train_inputs.flatten(1).numpy(), flat, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16])
def test_any_integer_labels_and_columns_of_labels(dtype: type, tmp_path: Path) -> None:
    data = read(tmp_path, y_train=Y.astype(dtype)[:, None], y_test=Y[:3].astype(dtype))
    assert data.train_targets.dtype == torch.int64
    assert data.train_targets.tolist() == Y.tolist()


def test_classes_that_do_not_start_at_0_keep_their_names(tmp_path: Path) -> None:
    data = read(tmp_path, y_train=Y * 5 + 1, y_test=Y[:3] * 5 + 1)
    assert data.class_names == ("1", "6", "11")
    assert data.train_targets.tolist() == Y.tolist()
    assert data.test_targets.tolist() == [0, 1, 2]


def test_the_fingerprint_follows_the_content_and_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = read(tmp_path / "a").fingerprint
    assert read(tmp_path / "b").fingerprint == first
    changed = X.copy()
    changed[5, 3, 4] ^= 1
    assert read(tmp_path / "b", x_train=changed).fingerprint != first


def test_a_missing_file_a_folder_and_no_npz(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"^npz: .*/none\.npz does not exist\.\nA \.npz file is wanted\.\nFix: write one with np\.savez",
    ):
        npz(tmp_path, path=tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"is a folder\."):
        npz(tmp_path, path=tmp_path)
    single = tmp_path / "single.npy"
    np.save(single, X)
    with pytest.raises(
        DataError, match=r"this is not an \.npz file, or it is damaged: it holds one array without a name"
    ):
        npz(tmp_path, path=single)


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"\x80\x04pickle", b"PK\x03\x04 and no more"])
def test_a_file_of_another_kind(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"this is not an \.npz file, or it is damaged"):
        npz(tmp_path, path=path)


def test_a_damaged_array(tmp_path: Path) -> None:
    path = write(tmp_path)
    content = bytearray(path.read_bytes())
    at = content.index(X.tobytes())
    content[at] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"it is damaged: x_train: Bad CRC-32"):
        npz(tmp_path, path=path)


def test_missing_keys(tmp_path: Path) -> None:
    message = error(tmp_path, y_test=None, x_test=None, x_valid=X)
    assert message.startswith(
        "it has no x_test, y_test, y_val.\nThere is: x_train, y_train, x_valid.\nFix: write it with np.savez("
    )


def test_objects_are_refused(tmp_path: Path) -> None:
    ragged = np.array([X[0], X[1, :2]], dtype=object)
    message = error(tmp_path, x_train=ragged)
    assert message == (
        "x_train is an array of Python objects.\n"
        "Such arrays are pickles, which can run code when they are read; bnbench reads none.\n"
        "Fix: give all samples one shape and one type: x_train = np.stack(x_train).astype('float32'), "
        "or x_train.astype(str) where they are labels"
    )


def test_text_is_no_number(tmp_path: Path) -> None:
    assert (
        error(tmp_path, x_train=np.array(list("abcabc")))
        == "x_train holds <U1, not numbers.\nFix: x_train.astype('float32')"
    )


def test_lengths_that_do_not_match(tmp_path: Path) -> None:
    assert error(tmp_path, y_train=Y[:4]).startswith(
        "x_train has 6 samples and y_train 4.\nEach sample has one"
    )


@pytest.mark.parametrize(
    ("value", "dtype"), [(np.nan, np.float32), (-np.inf, np.float64), (1e300, np.float64)]
)
def test_values_that_are_not_finite_are_counted_and_the_first_is_named(
    value: float, dtype: type, tmp_path: Path
) -> None:
    x: Any = X.astype(dtype)
    x[2, 1, 3] = x[4, 0, 0] = value
    how = " (as float32)" if value > 1 else ""
    assert error(tmp_path, x_train=x) == (
        f"x_train has 2 values that are NaN or infinite{how}; the first is x_train[2, 1, 3].\n"
        "One of them makes every weight NaN.\n"
        "Fix: remove those samples, or np.nan_to_num"
    )


def test_negative_labels(tmp_path: Path) -> None:
    assert error(tmp_path, y_train=np.array([0, 1, -1, 0, 1, 2])).startswith(
        "y_train has a negative label, -1 (sample 2)."
    )


def test_labels_that_are_no_integers(tmp_path: Path) -> None:
    assert error(tmp_path, y_train=Y + 0.5).startswith(
        "y_train holds float64 with 6 values that are no whole numbers, e.g. 0.5 (sample 0).\nLabels are classes"
    )


def test_one_hot_labels(tmp_path: Path) -> None:
    assert error(tmp_path, y_train=np.eye(3)[Y]) == (
        "y_train has the shape (6, 3): it looks one-hot.\n"
        "Labels are one class a sample, (N,) or (N, 1).\n"
        "Fix: y_train.argmax(axis=1)"
    )


def test_a_test_label_that_train_lacks(tmp_path: Path) -> None:
    assert error(tmp_path, y_test=np.array([0, 7, 9])).startswith(
        "y_test has labels that y_train lacks: 7, 9."
    )


def test_one_class_only(tmp_path: Path) -> None:
    assert error(tmp_path, y_train=Y * 0 + 4).startswith("y_train has only one class, 4.")


def test_empty_arrays(tmp_path: Path) -> None:
    assert error(tmp_path, x_train=X[:0], y_train=Y[:0]) == "x_train is empty: its shape is (0, 4, 5)."


def test_train_and_test_of_different_shape(tmp_path: Path) -> None:
    assert error(tmp_path, x_test=X[:3, :3]).startswith(
        "a sample of x_test has the shape (3, 5), one of x_train (4, 5)."
    )


def test_channels_first(tmp_path: Path) -> None:
    message = error(tmp_path, x_train=np.zeros((6, 3, 8, 8)))
    assert message.startswith("x_train has the shape (6, 3, 8, 8).")
    assert message.endswith("Fix: channels come last: x_train.transpose(0, 2, 3, 1)")
    assert "Fix: reshape it" in error(tmp_path, x_train=np.zeros((6, 2)).reshape(6, 1, 1, 1, 2))
