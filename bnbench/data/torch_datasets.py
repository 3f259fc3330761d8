"""A plugin's `torch.utils.data.Dataset` becomes a `Dataset` of bnbench: read once, item by item, into memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from bnbench.base.errors import DataError
from bnbench.base.process_state import seeded
from bnbench.base.seeding import generator
from bnbench.base.user_code import guarded, raise_interrupt, text_of
from bnbench.data import Dataset
from bnbench.data.class_names import twin_notes
from bnbench.data.part_checks import check_scales, copies
from bnbench.data.tally import listed
from bnbench.data.tensors import Pair, make_dataset
from bnbench.data.torch_targets import kind_of, read_targets

PARTS = ("train", "val", "test")
#: The share of a single data set that is held out to test.
TEST_SHARE = 0.2
RETURNS = "return train, test (or train, val, test), or {'train': ..., 'test': ...}"


@dataclass(frozen=True)
class _Items:
    """One part as it was read: inputs (N, C, H, W), and the target of each."""

    inputs: Tensor
    targets: list[Any]


def taken(name: str, given: Any) -> Dataset:
    """The data set that a factory's map-style data sets hold. Raises DataError with the part and index of a fault.

    name: of the factory, for messages. given: train and test, or train, val and test, as a tuple or a mapping; or one
    data set, of which a fixed fifth is held out to test. Items are (image, label): images are PIL pictures, arrays
    (H, W), (H, W, C) or (F,), or tensors (C, H, W), (H, W) or (F,), uint8 or float. Labels are whole numbers or
    texts, masks (H, W) of whole numbers, or float numbers, (columns,).
    """
    place = f"data set {name}"
    parts = _parts(place, given)
    with guarded(), seeded(0, torch.device("cpu")):
        read = {part: _read(f"{place}: {part}", dataset) for part, dataset in parts.items()}
    given_targets = {part: items.targets for part, items in read.items()}
    targets, names = read_targets(place, given_targets, _declared(parts["train"]))
    pairs: dict[str, Pair] = {part: (items.inputs, targets[part]) for part, items in read.items()}
    notes: list[str] = []
    if len(parts) == 1:
        pairs, note = _held_out(name, pairs["train"])
        notes.append(note)
    _check_shapes(place, pairs)
    images = {part: pair[0] for part, pair in pairs.items()}
    twice, leaks = copies(images)
    return make_dataset(
        place,
        pairs["train"],
        pairs["test"],
        names,
        val=pairs.get("val"),
        notes=(*notes, *twin_notes(names), *twice),
        cautions=(*check_scales(place, images, refuse=False), *leaks),
    )


def _parts(place: str, given: Any) -> dict[str, Any]:
    """The data sets by part. Raises DataError where they are not map-style, or have other parts."""
    if isinstance(given, Mapping):
        parts = {str(key): value for key, value in given.items()}
        if not {"train"} <= set(parts) <= set(PARTS):
            raise DataError(
                f"{place}: its function returns the parts {listed(parts)}.",
                "The parts are train, test and, where there is one, val.",
                f"{RETURNS}.",
            )
    elif isinstance(given, tuple | list) and len(given) in (2, 3):
        parts = dict(zip(PARTS if len(given) == 3 else ("train", "test"), given, strict=True))
    else:
        parts = {"train": given}
    for part, dataset in parts.items():
        _check_map_style(f"{place}: {part}", dataset)
    if "test" not in parts and len(parts) > 1:
        raise DataError(f"{place}: there is no test part.", "The verdict is about it.", f"{RETURNS}.")
    return {part: parts[part] for part in PARTS if part in parts}


def _check_map_style(place: str, dataset: Any) -> None:
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise DataError(
            f"{place} is an IterableDataset ({kind}).",
            "It has no length and no index, so that no sample can be held out, drawn in a seeded order or paired.",
            f"a map-style Dataset with __len__ and __getitem__, such as a list of its items: list({kind}(...)).",
        )
    if isinstance(dataset, list) and dataset and isinstance(dataset[0], tuple):
        return
    if not hasattr(dataset, "__getitem__") or not (
        isinstance(dataset, TorchDataset) or hasattr(dataset, "__len__")
    ):
        raise DataError(
            f"{place} is {kind}.",
            "A torch.utils.data.Dataset with __len__ and __getitem__ is wanted, or a Dataset of bnbench.",
            f"{RETURNS}.",
        )


def _read(place: str, dataset: Any) -> _Items:
    """All items. Raises DataError with the index of the first one that is of no use."""
    try:
        count = len(dataset)
    except BaseException as error:
        raise_interrupt(error)
        raise DataError(
            f"{place} has no length: {text_of(error)}.",
            "Samples are held out and drawn by their index.",
            "define __len__.",
        ) from error
    if not count:
        raise DataError(f"{place} holds no samples.", fix="look at the path, or the filter, of that part.")
    inputs: list[Tensor] = []
    targets: list[Any] = []
    for index in range(count):
        image, target = _item(place, dataset, index)
        values = _image(f"{place}[{index}]", image)
        if inputs and (values.shape, values.dtype) != (inputs[0].shape, inputs[0].dtype):
            raise DataError(
                f"{place}[{index}] is {kind_of(values)}, and {place.rpartition(' ')[2]}[0] is {kind_of(inputs[0])}.",
                "A network takes inputs of one shape and type.",
                "bring them to one in __getitem__, such as v2.Resize((32, 32)) for images.",
            )
        inputs.append(values)
        targets.append(target)
    again = _image(f"{place}[0]", _item(place, dataset, 0)[0])
    if not torch.equal(again.nan_to_num(), inputs[0].nan_to_num()):
        raise DataError(
            f"{place}[0] is another image when it is read again.",
            "bnbench reads every item once, so a random transform in the Dataset would be frozen.",
            "leave it out there, and name it in the study: augment: {name: RandomHorizontalFlip}.",
        )
    whole = torch.stack(inputs)
    if whole.is_floating_point() and not whole.isfinite().all():
        wrong = (~whole.isfinite()).flatten(1).any(1)
        first = int(wrong.nonzero()[0])
        raise DataError(
            f"{place} has NaN or infinity in {int(wrong.sum())} of {count} samples; the first is {place}[{first}].",
            "No sample is left out in silence.",
            "remove those samples, or fill their values in.",
        )
    return _Items(whole, targets)


def _item(place: str, dataset: Any, index: int) -> tuple[Any, Any]:
    try:
        item = dataset[index]
    except BaseException as error:
        raise_interrupt(error)
        raise DataError(
            f"{place}[{index}] raises {text_of(error)}.",
            "Every sample is read before training.",
            "mend __getitem__, or leave that sample out of __len__.",
        ) from error
    if not (isinstance(item, tuple | list) and len(item) == 2):
        size = f" of {len(item)}" if isinstance(item, tuple | list | Mapping) else ""
        raise DataError(
            f"{place}[{index}] is {type(item).__name__}{size}.",
            "An item is (image, label).",
            "return image, label in __getitem__.",
        )
    return item[0], item[1]


def _image(place: str, given: Any) -> Tensor:
    """(C, H, W), uint8 or float32; (F, 1, 1) of features. Raises DataError."""
    if hasattr(given, "mode") and hasattr(given, "getbands"):  # a PIL picture
        if given.mode not in ("L", "RGB", "1"):
            raise DataError(
                f"{place} is a picture of mode {given.mode}.",
                "Gray (L) and RGB pictures are taken as they are.",
                "image.convert('RGB') in __getitem__.",
            )
        given = np.asarray(given.convert("L") if given.mode == "1" else given)
    is_array = isinstance(given, np.ndarray)
    if not is_array and not isinstance(given, Tensor):
        raise DataError(
            f"{place}: its image is {type(given).__name__}.",
            "Images are PIL pictures, NumPy arrays or tensors.",
            "torch.as_tensor(image).",
        )
    values = torch.as_tensor(given.copy() if is_array else given.detach().cpu()).as_subclass(Tensor)
    if not (values.is_floating_point() or values.dtype == torch.uint8):
        raise DataError(
            f"{place} is of type {str(values.dtype).removeprefix('torch.')}.",
            "Images are uint8 (0 to 255) or float.",
            "image.to(torch.uint8), or .float() where they are measured values.",
        )
    values = values if values.dtype == torch.uint8 else values.float()
    if values.ndim == 1:
        return values[:, None, None]
    if values.ndim == 2:
        return values[None]
    if values.ndim == 3 and is_array and values.shape[2] in (1, 3):
        return values.permute(2, 0, 1).contiguous()
    if values.ndim == 3:
        return values.contiguous()
    raise DataError(
        f"{place} has the shape {tuple(values.shape)}.",
        "An image is (channels, height, width); an array may be (height, width, channels); a row is (features,).",
        "image.squeeze(0), where there is a batch axis.",
    )


def _declared(dataset: Any) -> list[str]:
    """The names of its classes, where the data set has them, as torchvision's do."""
    inner = dataset
    while not hasattr(inner, "classes") and hasattr(inner, "dataset"):  # of a Subset
        inner = inner.dataset
    classes = getattr(inner, "classes", None)
    is_list = isinstance(classes, Sequence) and not isinstance(classes, str)
    return [str(one) for one in classes] if classes is not None and is_list else []


def _held_out(name: str, pair: Pair) -> tuple[dict[str, Pair], str]:
    """A fixed fifth to test, whatever the seed of a run."""
    inputs, targets = pair
    count = len(targets)
    size = math.ceil(count * TEST_SHARE)
    if count < 2 or size == count:
        raise DataError(f"data set {name}: it holds {count} samples.", "A part of them is held out to test.")
    order = torch.randperm(count, generator=generator(0, name, "test"))
    test, train = order[:size].sort().values, order[size:].sort().values
    note = f"one data set of {count:,} samples: a fixed draw of {size:,} is the test part ({RETURNS})"
    return {"train": (inputs[train], targets[train]), "test": (inputs[test], targets[test])}, note


def _check_shapes(place: str, pairs: Mapping[str, Pair]) -> None:
    """Raises DataError where a part has images or targets of another shape or type than train."""
    train = pairs["train"]
    for part, pair in pairs.items():
        for what, ours, theirs in zip(("image", "label"), pair, train, strict=True):
            if (ours.shape[1:], ours.dtype) != (theirs.shape[1:], theirs.dtype):
                raise DataError(
                    f"{place}: {what}s of {part} are {kind_of(ours[0])}, those of train {kind_of(theirs[0])}.",
                    "One network takes both.",
                    "the same transform for both parts.",
                )
