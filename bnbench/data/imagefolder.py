"""The user's own images: one folder a class.

path/train/CLASS/*.jpg    path/test/CLASS/*.jpg
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from bnbench.data import Dataset, datasets
from bnbench.data.decoding import SUFFIXES, Decoding, decoded
from bnbench.data.tensors import make_dataset
from bnbench.errors import DataError

LAYOUT = "PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or png, bmp, gif, webp, tif)"


@dataclass(frozen=True)
class Part:
    """The images of train or test, sorted by class and path. labels: the class of each, from 0."""

    class_names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]


@datasets.register("imagefolder", augment="none")
def imagefolder(
    data_dir: Path,
    *,
    path: Path,
    image_size: Annotated[int, Field(ge=1)] | None = None,
    channels: Literal[1, 3] = 3,
) -> Dataset:
    """Your own images, one folder a class: PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg.

    image_size: None keeps the size that all have in common; a number scales the short side to it
    (bilinear, antialiased) and cuts the centre square. channels: 3 colour, 1 gray. Decoded once; the
    pixels are kept in data_dir/imagefolder-cache until a file changes. Raises DataError.
    """
    root = path.expanduser()
    train, test = _parts(root)
    pixels = torch.from_numpy(
        decoded(
            root, (*train.paths, *test.paths), Decoding(image_size, channels), data_dir / "imagefolder-cache"
        )
    )
    cut = len(train.paths)
    return make_dataset(
        str(path),
        (pixels[:cut], torch.tensor(train.labels)),
        (pixels[cut:], torch.tensor(test.labels)),
        train.class_names,
    )


def _parts(root: Path) -> tuple[Part, Part]:
    """Train and test, with the same classes. Raises DataError."""
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"imagefolder: {root.absolute()} {state}.", "A folder is wanted.", f"path: to {LAYOUT}"
        )
    for part in ("train", "test"):
        if not (root / part).is_dir():
            there = ", ".join(_folders(root)) or "no folders at all"
            raise DataError(
                f'imagefolder: {root.absolute()} has no folder "{part}".',
                f"There is: {there}.",
                f"lay it out as {LAYOUT}. The validation part is taken out of train by bnbench.",
            )
    train, test = _part(root / "train"), _part(root / "test")
    _check_classes(root, train.class_names, test.class_names)
    return train, test


def _check_classes(root: Path, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train != test:
        only = {"train": sorted(set(train) - set(test)), "test": sorted(set(test) - set(train))}
        listed = "; ".join(f"only in {part}: {_first(names)}" for part, names in only.items() if names)
        raise DataError(
            f"imagefolder: the classes of train and test in {root.absolute()} differ: {listed}.",
            "A class is a folder's name, to the letter, and must be in both.",
            "rename the folders, or move some images of the class.",
        )
    if len(train) == 1:
        raise DataError(
            f'imagefolder: {root.absolute()} has only one class, "{train[0]}".',
            "There is nothing to tell apart.",
            f"lay it out as {LAYOUT}.",
        )


def _part(folder: Path) -> Part:
    """All images below `folder`. Raises DataError for no class, or for a class without images."""
    names = _folders(folder)
    if not names:
        raise DataError(
            f"imagefolder: {folder.absolute()} has no class folders.",
            "The class of an image is the folder that it lies in.",
            f"lay it out as {LAYOUT}.",
        )
    by_class = [sorted(_images(folder / name)) for name in names]
    empty = [name for name, paths in zip(names, by_class, strict=True) if not paths]
    if empty:
        raise DataError(
            f"imagefolder: no images in {folder.absolute()} for: {_first(empty)}.",
            f"Files that count as images end in {' '.join(sorted(SUFFIXES))}.",
            "add images, or remove the folder from train and test.",
        )
    labels = [label for label, paths in enumerate(by_class) for _ in paths]
    return Part(tuple(names), tuple(path for paths in by_class for path in paths), tuple(labels))


def _folders(folder: Path) -> list[str]:
    """Names of the folders in it, sorted, without hidden ones."""
    return sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
    )


def _images(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                yield Path(place, name)


def _first(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f'"{name}"' for name in names[:limit]) + more
