"""The parts of a folder of images: which files and classes train, val and test hold, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnbench.base.errors import DataError
from bnbench.data.class_names import in_order, read_as, twin_hint
from bnbench.data.folders import (
    LEFT_OUT,
    SUFFIXES,
    FileId,
    entries,
    identity,
    images_below,
    kind_of,
)
from bnbench.data.tally import Tally, listed, printable

LAYOUT = "PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or png, bmp, gif, webp, tif)"
#: Accepted names of the folder of a validation part.
VALIDATION = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class Part:
    """The images of train, val or test, sorted by class and path. labels: the class of each, by name."""

    name: str
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    files: tuple[FileId, ...]


def read_parts(root: Path, tally: Tally) -> dict[str, Part]:
    """Train, test, and val where there is one. Raises DataError."""
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"imagefolder: {root.absolute()} {state}.", "A folder is wanted.", f"path: to {LAYOUT}"
        )
    folders = {}
    for entry in entries(root):
        kind = kind_of(entry)
        if kind == "folder":
            folders[entry.name] = root / entry.name
        else:
            tally.add(kind, entry.name)
    validation = [name for name in VALIDATION if name in folders]
    if len(validation) > 1:
        raise DataError(
            f"imagefolder: {root.absolute()} has the folders {listed(validation)}.",
            "Each of them may be the validation part.",
            "keep one, and move the others out of the folder.",
        )
    for name in ("train", "test"):
        if name not in folders:
            there = ", ".join(map(printable, folders)) or "no folders at all"
            raise DataError(
                f'imagefolder: {root.absolute()} has no folder "{name}".',
                f"There is: {there}.",
                f"lay it out as {LAYOUT}. Without PATH/val the validation part is taken out of train.",
            )
    chosen = {"train": "train", **({"val": validation[0]} if validation else {}), "test": "test"}
    _check_apart(root, [folders[name] for name in chosen.values()])
    for name in set(folders) - set(chosen.values()):
        tally.add("folder", name)
    return {part: _part(part, folders[name], root, tally) for part, name in chosen.items()}


def _check_apart(root: Path, folders: Sequence[Path]) -> None:
    seen: dict[FileId, Path] = {}
    for folder in folders:
        other = seen.setdefault(identity(folder), folder)
        if other != folder:
            raise DataError(
                f'imagefolder: "{other.name}" and "{folder.name}" in {root.absolute()} are one folder.',
                "A network would be tested on its training images.",
                "give each part its own images.",
            )


def _part(name: str, folder: Path, root: Path, tally: Tally) -> Part:
    """All images below `folder`. Raises DataError for no class, or for a class without images."""
    by_class: dict[str, list[tuple[FileId, Path]]] = {}
    written: dict[str, str] = {}
    above = {
        identity(parent) for path in (folder.absolute(), folder.resolve()) for parent in (path, *path.parents)
    }
    for entry in entries(folder):
        kind, example = kind_of(entry), os.path.join(folder.name, entry.name)
        if kind == "folder" and identity(folder / entry.name) in above:
            tally.add("loop", example)
        elif kind != "folder":
            tally.add("beside" if kind == "file" else kind, example)
        else:
            label = read_as(entry.name)
            if label in by_class:
                raise DataError(
                    f"imagefolder: two folders in {folder.absolute()} are called {listed([label])}.",
                    f"Their names differ in bytes alone ({written[label]!r} and {os.fsencode(entry.name)!r}).",
                    "put their images into one folder.",
                )
            written[label] = repr(os.fsencode(entry.name))
            by_class[label] = sorted(
                images_below(folder / entry.name, root, tally), key=lambda image: image[1]
            )
    if not by_class:
        raise DataError(
            f"imagefolder: {folder.absolute()} has no class folders.",
            "The class of an image is the folder that it lies in.",
            f"lay it out as {LAYOUT}.",
        )
    if empty := [label for label, images in by_class.items() if not images]:
        raise DataError(
            f"imagefolder: no images in {folder.absolute()} for: {listed(empty)}.",
            f"Files that count as images end in {' '.join(sorted(SUFFIXES))}."
            + "".join(f" In the whole folder, {text}." for text in tally.sentences(LEFT_OUT)),
            "add images, or remove the folder from train and test.",
        )
    images = [(label, *file) for label in in_order(by_class) for file in by_class[label]]
    return Part(
        name, tuple(path for _, _, path in images), tuple(f[0] for f in images), tuple(f[1] for f in images)
    )


def class_names_of(root: Path, parts: Mapping[str, Part], tally: Tally) -> list[str]:
    """The classes of train; a classification refuses a single one. Raises DataError where another part has more."""
    names = in_order(set(parts["train"].labels))
    for part in parts.values():
        if unknown := sorted(set(part.labels) - set(names)):
            lacking = sorted(set(names) - set(part.labels))
            only = f"; only in train: {listed(lacking)}" if lacking else ""
            raise DataError(
                f"imagefolder: the classes of train and {part.name} in {root.absolute()} differ: "
                f"only in {part.name}: {listed(unknown)}{only}.",
                f"No network can learn a class that it never sees.{twin_hint(unknown, names)}",
                "rename the folders, or move some images of the class to train.",
            )
    return names


def missing_classes(parts: Mapping[str, Part], names: Sequence[str]) -> list[str]:
    """One sentence for each part that lacks classes."""
    sentences = []
    for part in parts.values():
        if missing := [name for name in names if name not in set(part.labels)]:
            sentences.append(
                f"{len(missing)} of {len(names)} classes have no image in {part.name}: {listed(missing)}"
            )
    return sentences


def doubles(root: Path, parts: Mapping[str, Part]) -> list[str]:
    """Cautions on files that are in two classes or in two parts."""
    cautions = []
    for part in parts.values():
        classes: dict[FileId, str] = {}
        twice = [
            path
            for file, label, path in zip(part.files, part.labels, part.paths, strict=True)
            if classes.setdefault(file, label) != label
        ]
        if twice:
            cautions.append(
                f"in two classes of {part.name}: {_count(len(twice))} (a link, or one file with two names), "
                f"e.g. {printable(os.path.relpath(twice[0], root))}"
            )
    train = set(parts["train"].files)
    for part in list(parts.values())[1:]:
        shared = [path for file, path in zip(part.files, part.paths, strict=True) if file in train]
        if shared:
            cautions.append(
                f"in {part.name} and in train: {len(shared)} of {_count(len(part.paths))} of {part.name} (links), "
                f"e.g. {printable(os.path.relpath(shared[0], root))}: the {part.name} numbers are too good"
            )
    return cautions


def _count(number: int) -> str:
    return f"{number} file{'s' * (number != 1)}"
