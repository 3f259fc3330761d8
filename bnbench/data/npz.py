"""The user's own arrays, in one .npz file with Keras's names: x_train, y_train, x_test, y_test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bnbench.base.errors import DataError
from bnbench.data import Dataset, datasets
from bnbench.data.class_names import in_order, twin_hint, twin_notes
from bnbench.data.inputs import read_inputs
from bnbench.data.labels import read_groups, read_labels
from bnbench.data.npz_file import Array, read_arrays
from bnbench.data.part_checks import check_scales, copies
from bnbench.data.tally import listed, printable
from bnbench.data.targets import MASKS, NUMBERS, holds, read_masks, read_numbers
from bnbench.data.tensors import make_dataset

PARTS = ("train", "val", "test")


@datasets.register("npz", augment="none", holds=holds)
def npz(data_dir: Path, task: str = "", *, path: Path, same_scale: bool = True) -> Dataset:
    """Your own arrays in one .npz file: x_train, y_train, x_test, y_test, as Keras names and shapes them.

    x: (N, height, width), (N, height, width, 1 or 3), or (N, features), which become (N, features, 1, 1):
    every feature a channel, normalised by itself. uint8 stays, all else becomes float32 (centred first,
    where float32 alone would lose digits). y: (N,) or (N, 1), whole numbers from 0 or strings; the classes
    are the values that y_train has. Numbers that are not whole, or rows of them, are targets of a regression; masks
    (N, height, width) have a class at every pixel, 255: ignored. x_val and y_val are the validation part, where
    they are there. groups: of the samples of x_train, what belongs together, for `validation: {by: group}`.
    Raises DataError.

    task: the study's, which says whether y holds classes, numbers or masks; "": classes
    path: the file
    same_scale: refuse parts whose values lie on different scales
    """
    path = path.expanduser()
    arrays, unused = read_arrays(path)
    parts = [part for part in PARTS if f"x_{part}" in arrays]
    place = printable(path)
    images, shape_notes, shifted = read_inputs(place, {part: arrays[f"x_{part}"] for part in parts})
    given = {part: arrays[f"y_{part}"] for part in parts}
    for part in parts:
        if len(images[part]) != len(given[part]):
            raise DataError(
                f"{place}: x_{part} has {len(images[part])} samples and y_{part} {len(given[part])}.",
                "Each sample has one target, and samples are the first axis.",
                f"save them in one order: the shapes are {arrays[f'x_{part}'].shape} and {arrays[f'y_{part}'].shape}.",
            )
        if images[part].shape[1:] != images["train"].shape[1:]:
            raise DataError(
                f"{place}: a sample of x_{part} has the shape {arrays[f'x_{part}'].shape[1:]}, one of x_train "
                f"{arrays['x_train'].shape[1:]}.",
                "One network takes both.",
                "bring them to one shape, with the same inputs in the same order.",
            )
    targets, names, notes = _targets(place, task, given, images)
    pairs = {part: (images[part], targets[part]) for part in parts}
    groups, group_cautions = _groups(place, arrays, targets)
    twice, leaks = copies(images)
    types = sorted({str(images[part].dtype).removeprefix("torch.") for part in parts})
    if len(types) > 1:
        twice.append(f"the parts have the types {' and '.join(types)}; are they on one scale?")
    left_out = [f"arrays that are not used: {listed(sorted(unused))}"] if unused else []
    return make_dataset(
        place,
        pairs["train"],
        pairs["test"],
        names,
        val=pairs.get("val"),
        groups=groups,
        shifted=shifted,
        notes=(*left_out, *shape_notes, *notes, *twice),
        cautions=(*check_scales(place, images, refuse=same_scale), *leaks, *group_cautions),
    )


def _targets(
    place: str, task: str, given: Mapping[str, Array], images: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """The targets of each part, the classes (none where targets are numbers), and notes on them."""
    if task == NUMBERS:
        return read_numbers(place, given), [], []
    if task == MASKS:
        sizes = {part: (len(pictures), *pictures.shape[2:]) for part, pictures in images.items()}
        return *read_masks(place, given, sizes), []
    labels = {part: read_labels(place, f"y_{part}", array) for part, array in given.items()}
    names = _classes(place, labels)
    places = {name: index for index, name in enumerate(names)}
    indices = {part: torch.tensor([places[label] for label in of_part]) for part, of_part in labels.items()}
    return indices, names, _label_notes(given["train"], names, labels["train"])


def _classes(place: str, labels: Mapping[str, Sequence[str]]) -> list[str]:
    """The labels in y_train, sorted. Raises DataError for one only, or for others in another part."""
    names = in_order(set(labels["train"]))
    if len(names) == 1:
        raise DataError(
            f"{place}: y_train has only one class, {printable(names[0])}.",
            "A classifier needs at least two classes.",
        )
    for part, part_labels in labels.items():
        if unknown := in_order(set(part_labels) - set(names)):
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise DataError(
                f"{place}: y_{part} has labels that y_train lacks: {', '.join(unknown[:5])}{more}.",
                f"No network can learn a class that it never sees.{twin_hint(unknown, names)}",
                "write them alike, or split the samples again, so that each class is in y_train.",
            )
    return names


def _label_notes(given: Array, names: Sequence[str], labels: Sequence[str]) -> list[str]:
    notes = twin_notes(names)
    numbers = given.dtype.kind in "iuf" and all(name.isdigit() for name in names)
    if numbers and [int(name) for name in names] != list(range(len(names))):
        notes.append(
            f"the labels of y_train are {', '.join(names[:5])}{', …' if len(names) > 5 else ''}, not 0 to "
            f"{len(names) - 1}: {len(names)} classes, by their values"
        )
    if len(labels) < 2 * len(names):
        notes.append(
            f"y_train has {len(names)} classes for {len(labels)} samples: are they class labels, or measured values?"
        )
    return notes


def _groups(
    place: str, arrays: Mapping[str, Array], labels: Mapping[str, Sequence[str] | torch.Tensor]
) -> tuple[list[str] | None, list[str]]:
    """The group of each training sample, and cautions on groups that are in two parts. Raises DataError."""
    groups = {
        part: read_groups(place, f"groups_{part}", arrays[f"groups_{part}"], len(labels[part]))
        for part in labels
        if f"groups_{part}" in arrays
    }
    train = groups.get("train")
    cautions = []
    for part, part_groups in groups.items():
        shared = sorted(set(part_groups) & set(train)) if train and part != "train" else []
        if shared:
            count = sum(group in set(shared) for group in part_groups)
            cautions.append(
                f"{count} of {len(part_groups)} samples of {part} are of groups that are in train, too "
                f"({listed(shared, 3)}): the {part} numbers are too good"
            )
    return train, cautions
