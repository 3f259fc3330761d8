"""The user's own sequences of numbers, which may differ in length, in one .npz file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bnbench.base.errors import DataError
from bnbench.data import Dataset, datasets
from bnbench.data.class_names import in_order, twin_hint
from bnbench.data.labels import read_labels
from bnbench.data.npz_file import Array
from bnbench.data.tally import listed, printable
from bnbench.data.tensors import fingerprint

PARTS = ("train", "val", "test")
SAVE = "np.savez('data.npz', x_train=..., lengths_train=..., y_train=..., x_test=..., lengths_test=..., y_test=...)"


@datasets.register("sequences", task="text_classification")
def sequences(data_dir: Path, *, path: Path) -> Dataset:
    """Your own sequences of numbers in one .npz file: x_train (N, T, C), lengths_train (N,), y_train, and so for test.

    Sequence n of a part holds data at its first lengths[n] positions, from 1 to T; what stands behind is padding, which
    no number is taken from. x may also be (N, T), of one number each, or the sequences one after the other, (sum of the
    lengths, C). x_val and y_val are the validation part, where they are there. The numbers are normalised by
    mean and std over the positions that hold data. Raises DataError.

    path: the file
    """
    path = path.expanduser()
    arrays, place = _read(path), printable(path)
    parts = [part for part in PARTS if f"x_{part}" in arrays]
    found = {part: _padded(place, part, arrays) for part in parts}
    widths = {part: x.shape[2] for part, x in found.items()}
    if len(set(widths.values())) > 1:
        counts = ", ".join(f"{width - 1} in x_{part}" for part, width in widths.items())
        raise DataError(
            f"{place}: the numbers at a position are {counts}.",
            "One network takes all parts.",
            "the same columns in each part.",
        )
    longest = max(x.shape[1] for x in found.values())
    labels = {part: read_labels(place, f"y_{part}", arrays[f"y_{part}"]) for part in parts}
    names = in_order(set(labels["train"]))
    places = {name: index for index, name in enumerate(names)}
    _check_labels(place, labels, found)
    pairs = {}
    for part in parts:
        x = np.pad(found[part], ((0, 0), (0, longest - found[part].shape[1]), (0, 0)))
        pairs[part] = torch.from_numpy(x), torch.tensor([places[label] for label in labels[part]])
    own = pairs.get("val", (None, None))
    shares = [float(1 - pairs[part][0][..., -1].mean()) for part in parts]
    note = (
        f"{place}: sequences of up to {longest} positions; numbers at each: {widths['train'] - 1}; padding: "
        + ", ".join(f"{share:.1%} of {part}" for part, share in zip(parts, shares, strict=True))
    )
    return Dataset(
        *pairs["train"],
        *pairs["test"],
        class_names=tuple(names),
        fingerprint=fingerprint(*(tensor for pair in pairs.values() for tensor in pair)),
        val_inputs=own[0],
        val_targets=own[1],
        notes=(note, *_unused(arrays, parts)),
    )


def _read(path: Path) -> dict[str, Array]:
    """The arrays by name. Raises DataError."""
    name = printable(path)
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"sequences: {name} {state}.", "A .npz file is wanted.", f"write one with {SAVE}")
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":  # a .npz file is a zip file
                raise DataError(f"{name} is no .npz file.", "", f"write one with {SAVE}")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            arrays = {key: archive[key] for key in archive.files}
    except DataError:
        raise
    except Exception as error:  # a damaged zip can raise anything; so does an array of objects
        objects = "Object arrays" in str(error)
        raise DataError(
            f"{name}: {'it holds arrays of Python objects' if objects else f'it is damaged: {error}'}.",
            "To read them would run code of the file." if objects else "",
            f"np.concatenate the sequences, and save their lengths: {SAVE}" if objects else "write it again.",
        ) from error
    needed = ("x_train", "y_train", "x_test", "y_test")
    if missing := [key for key in needed if key not in arrays]:
        raise DataError(
            f"{name}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. It holds "
            f"{listed(arrays) or 'nothing'}.",
            fix=SAVE,
        )
    if ("x_val" in arrays) != ("y_val" in arrays):
        raise DataError(f"{name}: of x_val and y_val one is missing.", fix="both, or neither.")
    return arrays


def _unused(arrays: Mapping[str, Array], parts: list[str]) -> list[str]:
    known = {f"{start}_{part}" for start in ("x", "y", "lengths") for part in parts}
    left = sorted(set(arrays) - known)
    return [f"arrays that are not used: {listed(left)}"] if left else []


def _padded(place: str, part: str, arrays: Mapping[str, Array]) -> Array:
    """(N, T, C + 1) float32: the numbers, 0 at padding, and the column that tells padding apart."""
    key = f"x_{part}"
    if not len(arrays[f"y_{part}"]):
        raise DataError(
            f"{place}: y_{part} is empty.",
            "Each part needs at least one sequence.",
            "leave x_val and y_val out."
            if part == "val"
            else f"sequences in x_{part} with labels in y_{part}.",
        )
    if arrays[key].dtype.kind not in "biuf":
        raise DataError(
            f"{place}: {key} holds {arrays[key].dtype}, not numbers.", fix=f"{key}.astype('float32')"
        )
    x, lengths = _with_lengths(place, part, arrays)
    valid = np.arange(x.shape[1]) < lengths[:, None]
    wrong = ~np.isfinite(x) & valid[..., None] if x.dtype.kind == "f" else np.zeros(1, bool)
    if wrong.any():
        where = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise DataError(
            f"{place}: {key}: NaN or infinite values: {int(wrong.sum()):,}; the first is {key}{list(where)}.",
            "One of them makes every weight NaN.",
            f"remove those sequences, or end them before these positions (lengths_{part}).",
        )
    numbers = np.where(valid[..., None], x, 0).astype(np.float32)
    return np.concatenate([numbers, valid[..., None].astype(np.float32)], -1)


def _with_lengths(place: str, part: str, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """The sequences of a part as (N, T, C), and their lengths (N,)."""
    key, count = f"x_{part}", len(arrays[f"y_{part}"])
    x = arrays[key]
    lengths = arrays.get(f"lengths_{part}")
    if lengths is None and any(f"lengths_{other}" in arrays for other in PARTS):
        raise DataError(
            f"{place}: lengths_{part} is missing, and another part has lengths.",
            "Its padding would count as data.",
            f"lengths_{part}, one whole number for each label of y_{part}.",
        )
    if lengths is None and x.ndim == 3:
        lengths = np.full(len(x), x.shape[1])
    if lengths is None:
        raise DataError(
            f"{place}: {key} has the shape {x.shape}, and there is no lengths_{part}.",
            "Without lengths a sequence can't be told from its padding.",
            f"lengths_{part}, one whole number for each label of y_{part}.",
        )
    lengths = _lengths(place, part, lengths, count)
    if len(x) == int(lengths.sum()) != count:  # one after the other
        x = _laid_out(x.reshape(len(x), -1), lengths)
    x = x[..., None] if x.ndim == 2 else x
    if x.ndim != 3 or len(x) != count or int(lengths.max()) > x.shape[1]:
        raise DataError(
            f"{place}: {key} has the shape {arrays[key].shape}, y_{part} has {count} labels, and the longest of "
            f"lengths_{part} is {int(lengths.max())}.",
            "They do not fit one another.",
            f"{key} of shape (N, T, C) with T at least the longest length, or (sum of the lengths, C).",
        )
    return x, lengths


def _lengths(place: str, part: str, lengths: Array, count: int) -> Any:
    key = f"lengths_{part}"
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{place}: {key} has the shape {lengths.shape} and the type {lengths.dtype}; y_{part} has {count} labels.",
            "Each sequence has one length, a whole number.",
            f"{key}.astype('int64')." if lengths.shape == (count,) else f"{key} of shape ({count},).",
        )
    wrong = np.flatnonzero(lengths < 1)
    if len(wrong):
        raise DataError(
            f"{place}: {key}: lengths below 1: {len(wrong)}, e.g. {int(lengths[wrong[0]])} of sequence "
            f"{int(wrong[0])} (from 0).",
            "A sequence needs a valid position. A mask of zeros has no mean.",
            f"remove those sequences from x_{part}, {key} and y_{part}.",
        )
    return lengths.astype(np.int64)


def _laid_out(x: Array, lengths: Array) -> Array:
    """(N, T, C) of sequences that stand one after the other."""
    out = np.zeros((len(lengths), int(lengths.max()), x.shape[1]), x.dtype)
    for row, part in zip(out, np.split(x, np.cumsum(lengths)[:-1]), strict=True):
        row[: len(part)] = part
    return out


def _check_labels(place: str, labels: Mapping[str, list[str]], found: Mapping[str, Array]) -> None:
    names = set(labels["train"])
    if len(names) < 2:
        raise DataError(
            f"{place}: y_train has only one class, {listed(names)}.",
            "A classifier needs two.",
            "samples of another class in y_train.",
        )
    for part, held in labels.items():
        if len(held) != len(found[part]):
            raise DataError(
                f"{place}: x_{part} has {len(found[part])} sequences and y_{part} {len(held)} labels."
            )
        if unknown := in_order(set(held) - names):
            raise DataError(
                f"{place}: y_{part} has labels that y_train lacks: {listed(unknown)}.",
                f"No network can learn a class that it never sees.{twin_hint(unknown, names)}",
                f"samples of these classes in the training part, or remove them from {part}.",
            )
