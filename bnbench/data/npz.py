"""The user's own arrays, in one .npz file with Keras's names: x_train, y_train, x_test, y_test."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnbench.data import Dataset, datasets
from bnbench.data.tensors import make_dataset
from bnbench.errors import DataError

Array = npt.NDArray[Any]
KEYS = ("x_train", "y_train", "x_test", "y_test")
SAVE = "np.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)"


@datasets.register("npz", augment="none")
def npz(data_dir: Path, *, path: Path) -> Dataset:
    """Your own arrays in one .npz file: x_train, y_train, x_test, y_test, as Keras names and shapes them.

    x: (N, height, width), (N, height, width, 1 or 3), or (N, features), which become (N, features, 1, 1):
    every feature a channel, normalised by itself. uint8 stays, all else becomes float32. y: (N,) or (N, 1)
    integers from 0; the classes are the values that y_train has. Raises DataError.
    """
    path = path.expanduser()
    arrays = _read(path)
    images = {part: _images(path, f"x_{part}", arrays[f"x_{part}"]) for part in ("train", "test")}
    labels = {part: _labels(path, f"y_{part}", arrays[f"y_{part}"]) for part in ("train", "test")}
    for part in ("train", "test"):
        if len(images[part]) != len(labels[part]):
            raise DataError(
                f"{path}: x_{part} has {len(images[part])} samples and y_{part} {len(labels[part])}.",
                "Each sample has one label.",
            )
    classes = _classes(path, labels["train"], labels["test"])
    indices = {part: torch.from_numpy(np.searchsorted(classes, labels[part])) for part in ("train", "test")}
    return make_dataset(
        str(path),
        (images["train"], indices["train"]),
        (images["test"], indices["test"]),
        [str(value) for value in classes],
    )


def _read(path: Path) -> dict[str, Array]:
    """The four arrays. Raises DataError."""
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(
            f"npz: {path.absolute()} {state}.", "A .npz file is wanted.", f"write one with {SAVE}"
        )
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise _not_npz(path, str(error)) from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise _not_npz(path, "it holds one array without a name")
        missing = [key for key in KEYS if key not in archive]
        if missing:
            raise DataError(
                f"{path}: it has no {', '.join(missing)}.",
                f"There is: {', '.join(archive.files) or 'nothing'}.",
                f"write it with {SAVE}",
            )
        return {key: _array(path, archive, key) for key in KEYS}


def _not_npz(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: this is no .npz file, or a damaged one: {reason}", fix=f"write it again with {SAVE}"
    )


def _array(path: Path, archive: Any, key: str) -> Array:
    """One array, its numbers checked to be numbers. Raises DataError."""
    try:
        array: Array = archive[key]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise _not_npz(path, f"{key}: {error}") from error
        raise DataError(
            f"{path}: {key} is an array of Python objects.",
            "Such arrays are pickles, which can run code when they are read; bnbench reads none.",
            f"give all samples one shape and one type: {key} = np.stack({key}).astype('float32')",
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _not_npz(path, f"{key}: {error}") from error
    if array.dtype.kind not in ("biufUS" if key.startswith("y") else "biuf"):
        raise DataError(f"{path}: {key} holds {array.dtype}, not numbers.", fix=f"{key}.astype('float32')")
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{path}: {key} is empty: its shape is {array.shape}.")
    return array


def _images(path: Path, key: str, array: Array) -> Tensor:
    """(N, C, H, W), uint8 or float32. Raises DataError for another shape, NaN or infinity."""
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):  # becomes infinite, and is then reported
            array = array.astype(np.float32)
        _check_finite(path, key, array)
    if array.ndim == 2:
        array = array[:, :, None, None]
    elif array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    else:
        first = array.ndim == 4 and array.shape[1] in (1, 3)
        raise DataError(
            f"{path}: {key} has the shape {array.shape}.",
            "It should be (N, features), (N, height, width), or (N, height, width, channels) with 1 or 3 channels.",
            f"channels come last: {key}.transpose(0, 2, 3, 1)" if first else "reshape it, or drop channels.",
        )
    return torch.from_numpy(np.ascontiguousarray(array))


def _check_finite(path: Path, key: str, array: Array) -> None:
    wrong = ~np.isfinite(array)
    count = int(wrong.sum())
    if count:
        where = tuple(int(index) for index in np.unravel_index(wrong.argmax(), array.shape))
        raise DataError(
            f"{path}: {key} has {count} values that are NaN or infinite (as float32); the first is {key}{list(where)}.",
            "One of them makes every weight NaN.",
            "remove those samples, or np.nan_to_num",
        )


def _labels(path: Path, key: str, array: Array) -> Array:
    """(N,) int64, none negative. Raises DataError."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        one_hot = array.ndim == 2 and bool(np.isin(array, (0, 1)).all())
        raise DataError(
            f"{path}: {key} has the shape {array.shape}{': it looks one-hot' if one_hot else ''}.",
            "Labels are one integer a sample, (N,) or (N, 1).",
            f"{key}.argmax(axis=1)" if one_hot else f"give {key} one label a sample.",
        )
    if array.dtype.kind in "US":
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    if array.dtype.kind == "f":
        raise DataError(
            f"{path}: {key} holds {array.dtype}.",
            "Labels are integers; bnbench compares classifiers.",
            f"{key}.astype('int64'), if they are class numbers",
        )
    if int(array.min()) < 0:
        raise DataError(
            f"{path}: {key} has a negative label, {int(array.min())} (sample {int(array.argmin())}).",
            "Classes count from 0; -1 often stands for a sample without a label.",
            "remove those samples, or number the classes from 0.",
        )
    return array.astype(np.int64)


def _classes(path: Path, train: Array, test: Array) -> Array:
    """The values in the training labels, sorted. Raises DataError for one only, or for others in test."""
    classes: Array = np.unique(train)
    if len(classes) == 1:
        raise DataError(
            f"{path}: y_train has only one class, {classes[0]}.", "There is nothing to tell apart."
        )
    unknown = np.setdiff1d(test, classes)
    if len(unknown):
        raise DataError(
            f"{path}: y_test has labels that y_train lacks: {', '.join(map(str, unknown[:5]))}.",
            "No network can learn a class that it never sees.",
            "split the samples again, so that each class is in both.",
        )
    return classes
