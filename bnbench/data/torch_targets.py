"""The targets of a plugin's own data sets: classes, masks of classes, or numbers to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data.class_names import in_order
from bnbench.data.tensors import IGNORED


def kind_of(values: Tensor) -> str:
    """Type and shape, as "uint8 of 3x32x32"."""
    shape = "x".join(map(str, values.shape))
    kind = str(values.dtype).removeprefix("torch.")
    return f"{kind} of {shape}" if shape else f"one {kind}"


def read_targets(
    place: str, given: Mapping[str, list[Any]], names: list[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The targets of each part, and the classes; none where they are numbers. Raises DataError.

    given: the target of each item by part, "train" among them. names: the classes that the data set declares.
    """
    plain = {part: [_plain(target) for target in targets] for part, targets in given.items()}
    if isinstance(plain["train"][0], str):
        return _texts(place, plain, names)
    tensors = {part: _stacked(f"{place}: {part}", targets) for part, targets in plain.items()}
    if tensors["train"].is_floating_point():
        return {part: values.reshape(len(values), -1) for part, values in tensors.items()}, []
    return _classes(place, tensors, names)


def _plain(target: Any) -> Any:
    """A text, or a tensor; what is neither stays, and is reported."""
    if isinstance(target, str):
        return str(target)
    if isinstance(target, list | tuple | bool | int | float | np.ndarray | np.generic | Tensor):
        try:
            return torch.as_tensor(target).detach().cpu().as_subclass(Tensor)
        except (ValueError, TypeError, RuntimeError):
            return target
    return target


def _texts(
    place: str, plain: Mapping[str, list[Any]], names: list[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Labels that are texts: their classes are those of train, or the declared ones."""
    names = names or in_order({str(one) for one in plain["train"]})
    numbers = {name: number for number, name in enumerate(names)}
    for part, targets in plain.items():
        for index, target in enumerate(targets):
            if target not in numbers:
                raise _unknown(place, part, index, repr(target), "train and its list of classes lack it")
    return {part: torch.tensor([numbers[one] for one in targets]) for part, targets in plain.items()}, names


def _stacked(place: str, targets: list[Any]) -> Tensor:
    """(N, ...) int64, or float64 where they are numbers. Raises DataError with the first that differs."""
    first = targets[0]
    for index, target in enumerate(targets):
        if not isinstance(target, Tensor) or target.is_complex():
            raise DataError(
                f"{place}[{index}]: its label is {type(target).__name__}.",
                "Labels are whole numbers, texts, masks or float numbers.",
                "return image, label in __getitem__, with an int, a float, a str or a tensor as label.",
            )
        if target.shape != first.shape or target.is_floating_point() != first.is_floating_point():
            raise DataError(
                f"{place}[{index}] has a label that is {kind_of(target)}, and the label of [0] is {kind_of(first)}.",
                "All targets have one shape and type.",
                "bring them to one in __getitem__.",
            )
    whole = torch.stack(targets)
    if whole.is_floating_point() and not whole.isfinite().all():
        index = int((~whole.isfinite()).reshape(len(whole), -1).any(1).nonzero()[0])
        raise DataError(f"{place}[{index}] has NaN or infinity as its label.", fix="leave that sample out.")
    return whole.double() if whole.is_floating_point() else whole.long()


def _classes(
    place: str, tensors: Mapping[str, Tensor], names: list[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Labels (N,) or masks (N, H, W) as indices of the classes. Raises DataError."""
    of_one = {
        part: values[:, 0] if _has_an_axis_of_one(values) else values for part, values in tensors.items()
    }
    train = of_one["train"]
    if train.ndim not in (1, 3):
        raise DataError(
            f"{place}: a label has the shape {tuple(tensors['train'].shape[1:])}.",
            "A label is one whole number, or a mask (height, width) of class ids.",
            "label.argmax(), where it is one-hot; label.float(), where it holds numbers to predict.",
        )
    masks = train.ndim == 3
    known = [value for value in torch.unique(train).tolist() if not (masks and value == IGNORED)]
    good = set(range(len(names)) if names else (value for value in known if value >= 0))
    for part, values in of_one.items():
        for value in torch.unique(values).tolist():
            if value not in good and not (masks and value == IGNORED):
                index = int((values.reshape(len(values), -1) == value).any(1).nonzero()[0])
                declared = f"its classes are 0 to {len(names) - 1} (its list of classes)"
                why = "classes count from 0" if value < 0 else declared if names else "train lacks it"
                raise _unknown(place, part, index, value, why)
    if len(known) < 2:
        one = (
            f"only one class, {known[0]}"
            if known
            else f"no class: every pixel is {IGNORED}, which is ignored"
        )
        raise DataError(f"{place}: train has {one}.", "A classifier tells at least two classes apart.")
    if names:
        return of_one, names
    order = torch.tensor(known)
    return (
        {
            part: torch.where(values == IGNORED, IGNORED, torch.searchsorted(order, values))
            if masks
            else torch.searchsorted(order, values)
            for part, values in of_one.items()
        },
        [str(value) for value in known],
    )


def _has_an_axis_of_one(values: Tensor) -> bool:
    return values.ndim in (2, 4) and values.shape[1] == 1


def _unknown(place: str, part: str, index: int, label: object, why: str) -> DataError:
    return DataError(
        f"{place}: {part}[{index}] has the label {label}: {why}.",
        "No network can learn a class that it never sees.",
        "look at that sample's label, and at the list of classes; -1 often stands for a sample without a label.",
    )
