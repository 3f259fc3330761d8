"""The arrays of an .npz file, under one name each, whatever their author calls them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnbench.base.errors import DataError, nearest
from bnbench.data.tally import printable

Array = npt.NDArray[Any]
SAVE = "np.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)"

_PARTS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "te"),
}
_ROLES = {
    "x": ("x", "images", "image", "data", "inputs", "features"),
    "y": ("y", "labels", "label", "targets", "target", "classes"),
    "groups": ("groups", "group"),
}
#: Every name that is understood, in lower case -> what it is here: "train_inputs" -> "x_train".
NAMES = {
    name: f"{role}_{part}"
    for role, words in _ROLES.items()
    for part, ends in _PARTS.items()
    for word in words
    for end in ends
    for name in (f"{word}_{end}", f"{end}_{word}", f"{word}{end}")
} | {"groups": "groups_train", "group": "groups_train"}
NEEDED = ("x_train", "y_train", "x_test", "y_test")


def read_arrays(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Arrays by bnbench's names ("x_val" only with "y_val"), and the names of unused arrays. Raises DataError."""
    if not path.is_file():
        state = (
            "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        )
        raise DataError(
            f"npz: {printable(path.absolute())} {state}.", "A .npz file is wanted.", f"write one with {SAVE}"
        )
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _damaged(path, "it holds one array without a name")
            known, unused = _named(path, archive.files)
            return {name: _array(path, archive, given) for name, given in known.items()}, unused
    except DataError:
        raise
    except Exception as error:  # a damaged zip can raise anything
        raise _damaged(path, str(error) or type(error).__name__) from error


def _named(path: Path, files: list[str]) -> tuple[dict[str, str], list[str]]:
    """Our name -> the file's name, of what is used; and the rest. Raises DataError."""
    known: dict[str, str] = {}
    for given in files:
        name = NAMES.get(given.lower())
        if name and name in known:
            raise DataError(
                f"{printable(path)}: {printable(known[name])} and {printable(given)} are both {name}.",
                "bnbench does not guess which is meant.",
                "save the file again with one of them.",
            )
        if name:
            known[name] = given
    missing = [name for name in NEEDED if name not in known]
    missing += [
        other
        for one, other in (("x_val", "y_val"), ("y_val", "x_val"))
        if one in known and other not in known
    ]
    if missing:
        raise DataError(
            f"{printable(path)}: it has no {', '.join(missing)}.",
            f"There is: {', '.join(map(printable, files)) or 'nothing'}.{_guess(missing, files, known)}",
            _whole_set(files) or f"write it with {SAVE}",
        )
    if "groups_val" in known and "x_val" not in known:
        del known["groups_val"]
    return known, [given for given in files if given not in known.values()]


def _guess(missing: list[str], files: list[str], known: dict[str, str]) -> str:
    free = [name for name in files if name not in known.values()]
    pairs = [(name, nearest(name, free)) for name in missing]
    return "".join(f" Is {printable(guess)} meant to be {name}?" for name, guess in pairs if guess)


def _whole_set(files: list[str]) -> str:
    """The fix for samples that are not split yet."""
    lower = {name.lower(): name for name in files}
    x = next((lower[name] for name in (*_ROLES["x"], "arr_0") if name in lower), None)
    y = next((lower[name] for name in (*_ROLES["y"], "arr_1") if name in lower), None)
    if not x or not y:
        return ""
    return (
        f"split {printable(x)} and {printable(y)} first: from sklearn.model_selection import train_test_split; "
        f"x_train, x_test, y_train, y_test = train_test_split({x}, {y}, test_size=0.2, stratify={y}, random_state=0)"
    )


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"{printable(path)}: this is not an .npz file, or it is damaged: {printable(reason)}",
        fix=f"write it again with {SAVE}",
    )


def _array(path: Path, archive: Any, key: str) -> Array:
    """One array as it is. Raises DataError."""
    try:
        array: Array = archive[key]
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _damaged(path, f"{key}: {error}") from error
    except MemoryError:
        raise DataError(
            f"{printable(path)}: {printable(key)} is larger than the memory.", fix="a smaller array."
        ) from None
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        fix = f"{key} = np.stack({key}).astype('float32'), or {key}.astype(str) where they are labels"
        raise DataError(
            f"{printable(path)}: {printable(key)} is an array of Python objects.",
            "Such arrays are pickles, which can run code when they are read; bnbench reads none.",
            f"give all samples one shape and one type: {printable(fix)}",
        ) from error
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{printable(path)}: {printable(key)} is empty: its shape is {array.shape}.")
    return array
