"""Labels and groups of an .npz file, as names: whole numbers by their value, strings as people read them."""

from __future__ import annotations

import numpy as np

from bnbench.base.errors import DataError
from bnbench.data.class_names import read_as
from bnbench.data.npz_file import Array


def read_labels(place: str, key: str, array: Array) -> list[str]:
    """The class name of each sample. Raises DataError where an entry is not a class."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise _many_a_sample(place, key, array)
    if array.dtype.kind in "US":
        return _strings(place, key, array)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{place}: {key} holds {array.dtype}.",
            "Labels are whole numbers or strings.",
            f"{key}.astype('int64') or {key}.astype(str), if they are classes",
        )
    if array.dtype.kind == "f":
        given, array = array.dtype, array.astype(np.float64)
        wrong = ~(np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < 2**53))
        if wrong.any():
            first = int(wrong.argmax())
            raise DataError(
                f"{place}: {key} holds {given} with {int(wrong.sum())} values that are no whole numbers, "
                f"e.g. {array[first]} (sample {first}).",
                "Labels are classes here; numbers as targets go with features and task: tabular_regression.",
                f"{key}.astype('int64') if they are class numbers; remove samples without a label.",
            )
    if array.dtype.kind != "b" and array.min() < 0:
        first = int((array < 0).argmax())
        raise DataError(
            f"{place}: {key} has a negative label, {int(array[first])} (sample {first}).",
            "Classes count from 0; -1 often stands for a sample without a label.",
            "remove those samples, or number the classes from 0.",
        )
    return [str(value) if array.dtype.kind == "b" else str(int(value)) for value in array.tolist()]


def _strings(place: str, key: str, array: Array) -> list[str]:
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{place}: {key} holds bytes that are no UTF-8: {error}.",
                fix=f"np.char.decode({key}, 'latin-1')",
            ) from None
    names = {text: read_as(text.strip()) for text in np.unique(array).tolist()}
    empty = [text for text, name in names.items() if not name]
    if empty:
        first = int(np.isin(array, empty).argmax())
        raise DataError(
            f"{place}: {key} has {int(np.isin(array, empty).sum())} empty labels, e.g. sample {first}.",
            "A sample without a label can't be learnt.",
            "remove those samples.",
        )
    return [names[text] for text in array.tolist()]


def _many_a_sample(place: str, key: str, array: Array) -> DataError:
    """The error for labels with more than one axis; the fix depends on their kind."""
    problem, why = (
        f"{place}: {key} has the shape {array.shape}",
        "Labels are one class a sample, (N,) or (N, 1).",
    )
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        return DataError(f"{problem}.", why, f"give {key} one label a sample.")
    sums = array.sum(axis=1, dtype="float64")
    if np.isin(array, (0, 1)).all():
        other = sums != 1
        if not other.any():
            return DataError(f"{problem}: it looks one-hot.", why, f"{key}.argmax(axis=1)")
        first = int(other.argmax())
        return DataError(
            f"{problem}: {int(other.sum())} samples have several labels or none, e.g. sample {first} has "
            f"{int(sums[first])} of them.",
            f"These are targets of many labels a sample (multi-label). {why}",
            "keep the samples with one label, or choose one of the columns as the label.",
        )
    if array.dtype.kind == "f" and array.min() >= 0 and np.allclose(sums, 1, atol=1e-3):
        return DataError(
            f"{problem}: its rows are probabilities.",
            why,
            "label each sample with one class; soft labels are not learnt.",
        )
    return DataError(f"{problem}.", why, f"give {key} one label a sample.")


def read_groups(place: str, key: str, array: Array, count: int) -> list[str]:
    """The group of each of `count` samples, by name. Raises DataError where one has none."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (count,):
        raise DataError(
            f"{place}: {key} has the shape {array.shape}, and there are {count} samples.",
            "Each sample has one group.",
            f"save one value a sample, in the order of x_{key.removeprefix('groups_')}.",
        )
    if array.dtype.kind in "US":
        texts = [str(read_as(str(value).strip())) for value in np.asarray(array, str).tolist()]
        missing = [index for index, text in enumerate(texts) if not text]
    elif array.dtype.kind in "biuf":
        texts = [_number(value) for value in array.tolist()]
        missing = np.flatnonzero(~np.isfinite(array)).tolist()
    else:
        raise DataError(f"{place}: {key} holds {array.dtype}.", fix=f"{key}.astype(str)")
    if missing:
        raise DataError(
            f"{place}: {key}: {len(missing)} samples have no group, e.g. sample {missing[0]}.",
            "A sample whose group is not known may belong to both parts.",
            "give each a group, or one of its own.",
        )
    return texts


def _number(value: float) -> str:
    """2.0 is the group 2."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)
