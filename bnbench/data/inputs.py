"""Inputs of an .npz file as tensors, with a note on the assumed axes; float32 must keep samples distinguishable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data.npz_file import Array
from bnbench.data.tally import not_finite

#: Rounding to float32 may move a value by this share of its input's standard deviation.
LOST = 1e-4
#: Standard deviations that float32 can divide by: it has few digits below, and no squares above.
SPREADS = (1e-36, 1e36)
#: Samples that are rounded for that at once.
CHUNK = 4096


def read_inputs(place: str, arrays: Mapping[str, Array]) -> tuple[dict[str, Tensor], list[str], bool]:
    """(N, C, H, W) of each part, uint8 or float32; notes; and whether inputs were centred before they were cast.

    arrays: by part, "train" among them. Raises DataError for another type or shape, NaN or infinity.
    """
    shaped = {}
    for part, array in arrays.items():
        _check_numbers(place, f"x_{part}", array)
        shaped[part] = _channels_first(place, f"x_{part}", array)
    notes = [f"x_train: {_taken_as(arrays['train'])}"]
    wide = {part: array for part, array in shaped.items() if array.dtype != np.uint8}
    center, scale = _coarse(shaped["train"]) if "train" in wide else (None, None)
    images = {}
    for part, array in shaped.items():
        if part in wide:
            array = _cast(array, center, scale)
            _check_finite(
                place, f"x_{part}", ~np.isfinite(array), "as float32, in units of the training part's spread"
            )
        images[part] = torch.from_numpy(np.ascontiguousarray(array))
    if center is not None and scale is not None:
        notes.append(
            f"{int((scale != 1).sum() or (center != 0).sum())} of {len(center)} inputs were standardised before they "
            "became float32, which would have lost their differences (float64 keeps them)"
        )
    return images, notes, center is not None


def _check_numbers(place: str, key: str, array: Array) -> None:
    if array.dtype.kind == "c":
        raise DataError(
            f"{place}: {key} holds {array.dtype}: complex numbers.",
            "The networks take real ones.",
            f"np.abs({key}), or real and imaginary part as two inputs.",
        )
    if array.dtype.kind not in "biuf":
        raise DataError(f"{place}: {key} holds {array.dtype}, not numbers.", fix=f"{key}.astype('float32')")
    if array.dtype.kind == "f":
        _check_finite(place, key, ~np.isfinite(array), "")
        if array.dtype.itemsize > 4:
            _check_finite(place, key, np.abs(array) > np.finfo(np.float32).max, "as float32")


def _check_finite(place: str, key: str, wrong: Array, when: str) -> None:
    if wrong.any():
        where = tuple(int(index) for index in np.unravel_index(wrong.argmax(), wrong.shape))
        condition = f" ({when})" if when else ""
        raise DataError(
            f"{place}: {key} has {not_finite(wrong)}{condition}; the first is {key}{list(where)}.",
            "One of them makes every weight NaN.",
            "remove those samples, or np.nan_to_num",
        )


def _channels_first(place: str, key: str, array: Array) -> Array:
    if array.ndim == 2:
        return array[:, :, None, None]
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[-1] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    first = array.ndim == 4 and array.shape[1] in (1, 3)
    raise DataError(
        f"{place}: {key} has the shape {array.shape}.",
        "It should be (N, features), (N, height, width), or (N, height, width, channels) with 1 or 3 channels.",
        f"channels come last: {key}.transpose(0, 2, 3, 1)" if first else "reshape it, or drop channels.",
    )


def _taken_as(array: Array) -> str:
    """A note on the assumed meaning of the axes."""
    count, *rest = array.shape
    start = f"{count:,} samples of shape {tuple(rest)} and type {array.dtype}, taken as"
    if array.ndim == 2:
        return f"{start} {rest[0]} features"
    if array.ndim == 3:
        return f"{start} gray images, {rest[0]} high and {rest[1]} wide"
    doubt = " (the channels are last; where they are first, transpose)" if rest[0] in (1, 3) else ""
    return (
        f"{start} images of {rest[2]} channel{'s' * (rest[2] > 1)}, {rest[0]} high and {rest[1]} wide{doubt}"
    )


def _coarse(train: Array) -> tuple[Array | None, Array | None]:
    """Each channel's offset and divisor before the cast; None, None where the cast loses nothing."""
    if train.dtype.kind == "b" or train.dtype.itemsize <= 2:
        return None, None
    channels = train.shape[1]
    center, scale = np.zeros(channels, np.longdouble), np.ones(channels, np.longdouble)
    for channel in range(channels):
        values = train[:, channel]
        if train.dtype == np.float32:
            extent = float(values.max()) - float(values.min())
            if extent == 0 or 1e-30 < extent < SPREADS[1]:
                continue
        elif _is_fine(values):
            continue
        with np.errstate(all="ignore"):
            first = values.flat[0]
            # in the widest type there is: int64 has 64 bits, float64 has 53
            offsets = values.astype(np.longdouble) - np.longdouble(first)
            mean, std = offsets.mean(), offsets.std()
            kept = values.astype(np.float32).astype(np.longdouble)
            error = np.abs(kept - values.astype(np.longdouble)).max()
        if std > 0 and not (error <= LOST * std and SPREADS[0] < std < SPREADS[1]):
            center[channel], scale[channel] = np.longdouble(first) + mean, std
    return (center, scale) if (center != 0).any() or (scale != 1).any() else (None, None)


def _is_fine(values: Array) -> bool:
    """Whether float32 surely keeps enough, at a glance in float64."""
    with np.errstate(all="ignore"):
        offsets = values.astype(np.float64) - float(values.flat[0])
        spread = float(offsets.std())
        largest = max(abs(float(values.min())), abs(float(values.max())))
    return SPREADS[0] < spread < SPREADS[1] and largest < 1e37 and largest * 2**-24 <= LOST * spread


def _cast(array: Array, center: Array | None, scale: Array | None) -> Array:
    if center is None or scale is None:
        with np.errstate(all="ignore"):  # what becomes infinite is then reported
            return array.astype(np.float32)
    result = np.empty(array.shape, np.float32)
    for start in range(0, len(array), CHUNK):
        part = array[start : start + CHUNK].astype(np.longdouble)
        with np.errstate(all="ignore"):
            result[start : start + CHUNK] = (part - center[:, None, None]) / scale[:, None, None]
    return result
