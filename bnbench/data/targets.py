"""Targets of an .npz file that are no classes of samples: numbers to predict, and masks with a class at every pixel."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnbench.base.errors import BnbenchError, DataError
from bnbench.data.npz_file import Array, read_arrays
from bnbench.data.tally import not_finite, printable
from bnbench.data.tensors import IGNORED

#: The tasks that the kinds of targets are for.
NUMBERS, MASKS = "tabular_regression", "segmentation"


def holds(path: Path) -> str:
    """The task that an .npz file is for where its y_train says so: numbers, or masks; "" where it holds classes."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return _holds(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _holds(path: Path, changed: int, size: int) -> str:
    try:
        arrays, _ = read_arrays(path)
    except BnbenchError:
        return ""
    inputs, targets = arrays["x_train"], arrays["y_train"]
    if inputs.ndim >= 3 and targets.ndim >= 3 and targets.shape[:3] == inputs.shape[:3]:
        return MASKS
    if inputs.ndim == 2 and are_numbers(targets):
        return NUMBERS
    return ""


def are_numbers(array: Array) -> bool:
    """Whether targets are measured values rather than classes: some are not whole, or a row has several.

    One-hot rows, many labels a row and probabilities are classes in another form.
    """
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        return False
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    fractions = bool((finite != np.floor(finite)).any())
    if array.ndim == 1 or array.shape[1] == 1:
        return fractions
    shares = bool(values.min() >= 0 and np.allclose(values.sum(1), 1, atol=1e-3))
    return not (shares or np.isin(values, (0, 1)).all())


def read_numbers(place: str, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """(N, columns) float64 of each part. arrays: y by part. Raises DataError for what is no finite number."""
    numbers = {part: _numbers(place, f"y_{part}", array) for part, array in arrays.items()}
    columns = numbers["train"].shape[1]
    for part, values in numbers.items():
        if values.shape[1] != columns:
            raise DataError(
                f"{place}: y_{part} has {values.shape[1]} numbers a sample and y_train {columns}.",
                "One network predicts both.",
                "save the same columns in all parts, in one order.",
            )
    return {part: torch.from_numpy(values) for part, values in numbers.items()}


def _numbers(place: str, key: str, array: Array) -> Array:
    if array.dtype.kind in "US":
        raise DataError(
            f"{place}: {key} holds text, e.g. {printable(array.flat[0])!r}.",
            "The task tabular_regression predicts numbers.",
            f"task: tabular, where they are classes; {key}.astype('float64'), where they are numbers in letters.",
        )
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise DataError(
            f"{place}: {key} holds {array.dtype} of shape {array.shape}.",
            "Targets of a regression are real numbers, (N,) or (N, columns).",
            f"{key}.astype('float64'), or one row of numbers a sample.",
        )
    values = np.ascontiguousarray(array.astype(np.float64).reshape(len(array), -1))
    wrong = ~np.isfinite(values)
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), wrong.shape)
        index = ", ".join(map(str, first[: array.ndim]))
        raise DataError(
            f"{place}: {key} has {not_finite(wrong)}; the first is {key}[{index}].",
            "A sample without its target can't be learnt or measured, and none is left out unseen.",
            f"keep = np.isfinite({key}){'.all(1)' if array.ndim == 2 else ''}; save x and y of those samples alone.",
        )
    return values


def read_masks(
    place: str, arrays: Mapping[str, Array], sizes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], list[str]]:
    """(N, H, W) int64 of each part, indices of the classes or IGNORED; and the classes, the ids that train has.

    arrays: y by part. sizes: (N, H, W) of x by part. Raises DataError.
    """
    ids = {part: _ids(place, f"y_{part}", array, sizes[part]) for part, array in arrays.items()}
    known = np.setdiff1d(np.unique(ids["train"]), [IGNORED])
    if len(known) < 2:
        there = (
            f"one class only, {known[0]}"
            if len(known)
            else f"no class: every pixel is {IGNORED}, which is ignored"
        )
        raise DataError(f"{place}: y_train has {there}.", "A segmentation tells at least two classes apart.")
    masks = {}
    for part, array in ids.items():
        unknown = np.setdiff1d(np.unique(array), [*known, IGNORED])
        if len(unknown):
            raise DataError(
                f"{place}: y_{part} has ids that y_train lacks: {', '.join(map(str, unknown[:5].tolist()))}.",
                "No network can learn a class that it never sees.",
                f"split the samples again, or write {IGNORED} (ignored) there.",
            )
        index = np.where(array == IGNORED, IGNORED, np.searchsorted(known, array))
        masks[part] = torch.from_numpy(index.astype(np.int64))
    return masks, [str(one) for one in known.tolist()]


def _ids(place: str, key: str, array: Array, size: tuple[int, ...]) -> Array:
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.shape != size:
        raise DataError(
            f"{place}: {key} has the shape {array.shape}, and its images are {' x '.join(map(str, size))}.",
            "A mask has one class id at every pixel of its image: (N, height, width).",
            f"{key}.argmax(-1), where the last axis holds the classes."
            if array.ndim == 4
            else "masks of the images' size.",
        )
    whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
    if not whole:
        raise DataError(
            f"{place}: {key} holds {array.dtype} with values that are no whole numbers.",
            "A mask holds class ids.",
            f"{key}.astype('int64'), or (mask > 0.5) where it is a probability.",
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > IGNORED:
        raise DataError(
            f"{place}: {key} has ids from {low} to {high}.",
            f"Class ids are 0 to {IGNORED - 1}, and {IGNORED} marks pixels that are ignored.",
            f"{key}[{key} < 0] = {IGNORED}" if low < 0 else "number the classes from 0.",
        )
    return array.astype(np.int64)
