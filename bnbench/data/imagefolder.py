"""The user's own images: one folder a class.

path/train/CLASS/*.jpg    path/test/CLASS/*.jpg    and, where there is one, path/val/CLASS/*.jpg
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from bnbench.base.errors import DataError
from bnbench.data import Dataset, datasets
from bnbench.data.class_names import in_order, read_as, twin_hint, twin_notes
from bnbench.data.decoding import decoded
from bnbench.data.folders import (
    LEFT_OUT,
    SUFFIXES,
    FileId,
    entries,
    identity,
    images_below,
    kind_of,
    relative,
)
from bnbench.data.group_file import read_groups
from bnbench.data.own import check_scales, copies
from bnbench.data.pictures import Decoding, Resize
from bnbench.data.split import Chosen, Labels, Sampling, choose
from bnbench.data.tally import Tally, listed, printable
from bnbench.data.tensors import index_of, make_dataset

LAYOUT = "PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or png, bmp, gif, webp, tif)"
#: What a folder with a validation part of its own may be called.
VALIDATION = ("val", "valid", "validation", "dev")
#: Pillow's own limit: beyond it a small file can fill the memory.
MAX_PIXELS = 178_956_970

Side = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Level = Annotated[int, Field(ge=0, le=255, strict=True)]


@dataclass(frozen=True)
class Part:
    """The images of train, val or test, sorted by class and path. labels: the class of each, by name."""

    name: str
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    files: tuple[FileId, ...]


@datasets.register("imagefolder", augment="none")
def imagefolder(
    data_dir: Path,
    sampling: Sampling | None = None,
    *,
    path: Path,
    image_size: Side | tuple[Side, Side] | None = None,
    resize: Resize = "crop",
    channels: Literal[1, 3] = 3,
    background: Literal["white", "black"] | tuple[Level, Level, Level] = "white",
    max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS,
    groups: Path | None = None,
) -> Dataset:
    """Your own images, one folder a class: PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg.

    PATH/val is the validation part, where it is there. Pictures stand as their EXIF orientation says. Decoded
    once; the pixels are kept in data_dir/imagefolder-cache until a file changes. Raises DataError.

    sampling: decode only what it chooses; None: all
    path: the folder PATH
    image_size: one number or [height, width]; none: the size that all pictures have in common
    resize: crop scales the picture until it covers the size and cuts the centre, pad shows all of it on the
        background, stretch changes its aspect (all bilinear, antialiased)
    channels: 3 colour, 1 gray
    background: the colour behind transparent pixels and around padded pictures
    max_pixels: a larger picture is refused
    groups: a CSV file with the columns file (relative to PATH) and group, for validation: {by: group}
    """
    root, tally = path.expanduser(), Tally()
    parts = _parts(root, tally)
    names = _class_names(root, parts, tally)
    both = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    size = (both[0], both[1]) if both[0] is not None and both[1] is not None else None
    colours = {"white": (255, 255, 255), "black": (0, 0, 0)}
    colour = colours[background] if isinstance(background, str) else background
    how = Decoding(size, resize, channels, colour, max_pixels)
    index = {name: place for place, name in enumerate(names)}
    labels = {name: torch.tensor([index[label] for label in part.labels]) for name, part in parts.items()}
    group_names = read_groups(groups, root, parts["train"].paths) if groups else None
    chosen = None
    files = {name: (part.paths, labels[name]) for name, part in parts.items()}
    if sampling:
        group_index = index_of(group_names) if group_names else None
        known = Labels(labels["train"], labels.get("val"), labels["test"], group_index)
        chosen = choose(known, sampling)
        files, group_names = _only(files, chosen), None
    paths = [file for found, _ in files.values() for file in found]
    pixels, changes = decoded(root, paths, how, data_dir / "imagefolder-cache", part_of=bool(chosen))
    cuts = torch.split(torch.from_numpy(pixels), [len(found) for found, _ in files.values()])
    pairs = {name: (images, files[name][1]) for name, images in zip(files, cuts, strict=True)}
    images = {name: pair[0] for name, pair in pairs.items() if name in parts}
    twice, leaks = _copies(images, {name: files[name][0] for name in images}, parts, root)
    return make_dataset(
        printable(path),
        pairs["train"],
        pairs["test"],
        names,
        val=pairs.get("val"),
        groups=group_names,
        notes=(*tally.sentences(LEFT_OUT), *twin_notes(names), *_missing(parts, names), *changes, *twice),
        cautions=(*_doubles(root, parts), *check_scales(printable(path), images, refuse=False), *leaks),
        chosen=chosen,
    )


def _copies(
    images: Mapping[str, torch.Tensor],
    paths: Mapping[str, Sequence[Path]],
    parts: Mapping[str, Part],
    root: Path,
) -> tuple[list[str], list[str]]:
    """See `copies`; of files that are no links to one another, which `_doubles` knows."""
    known = {path: file for part in parts.values() for path, file in zip(part.paths, part.files, strict=True)}
    train = {known[path] for path in paths["train"]}
    other = {
        name: [place for place, path in enumerate(found) if name == "train" or known[path] not in train]
        for name, found in paths.items()
    }

    def name_of(part: str, index: int) -> str:
        return printable(relative(paths[part][other[part][index]], root))

    kept = {
        name: images[name] if len(places) == len(images[name]) else images[name][places]
        for name, places in other.items()
    }
    return copies(kept, name_of)


Files = dict[str, tuple[tuple[Path, ...], torch.Tensor]]


def _only(files: Files, chosen: Chosen) -> Files:
    """The files and labels of the samples that are used, in the order in which they are."""
    wanted = {
        "train": ("train", chosen.train),
        "val": ("val" if chosen.own_val else "train", chosen.val),
        "test": ("test", chosen.test),
    }
    return {
        name: (tuple(files[source][0][place] for place in places.tolist()), files[source][1][places])
        for name, (source, places) in wanted.items()
    }


def _parts(root: Path, tally: Tally) -> dict[str, Part]:
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
                "A network would be tested on what it was trained on.",
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
                images_below(folder / entry.name, root, tally), key=lambda found: found[1]
            )
    if not by_class:
        raise DataError(
            f"imagefolder: {folder.absolute()} has no class folders.",
            "The class of an image is the folder that it lies in.",
            f"lay it out as {LAYOUT}.",
        )
    if empty := [label for label, found in by_class.items() if not found]:
        raise DataError(
            f"imagefolder: no images in {folder.absolute()} for: {listed(empty)}.",
            f"Files that count as images end in {' '.join(sorted(SUFFIXES))}."
            + "".join(f" In the whole folder, {text}." for text in tally.sentences(LEFT_OUT)),
            "add images, or remove the folder from train and test.",
        )
    found = [(label, *file) for label in in_order(by_class) for file in by_class[label]]
    return Part(
        name, tuple(path for _, _, path in found), tuple(f[0] for f in found), tuple(f[1] for f in found)
    )


def _class_names(root: Path, parts: Mapping[str, Part], tally: Tally) -> list[str]:
    """The classes of train. Raises DataError for one only, and where another part has more."""
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
    if len(names) == 1:
        raise DataError(
            f"imagefolder: {root.absolute()} has only one class, {listed(names)}.",
            "There is nothing to tell apart.",
            f"lay it out as {LAYOUT}.",
        )
    return names


def _missing(parts: Mapping[str, Part], names: Sequence[str]) -> list[str]:
    found = []
    for part in parts.values():
        if missing := [name for name in names if name not in set(part.labels)]:
            found.append(
                f"{len(missing)} of {len(names)} classes have no image in {part.name}: {listed(missing)}"
            )
    return found


def _doubles(root: Path, parts: Mapping[str, Part]) -> list[str]:
    """Real files that count in two places."""
    found = []
    for part in parts.values():
        classes: dict[FileId, str] = {}
        twice = [
            path
            for file, label, path in zip(part.files, part.labels, part.paths, strict=True)
            if classes.setdefault(file, label) != label
        ]
        if twice:
            found.append(
                f"in two classes of {part.name}: {_count(len(twice))} (a link, or one file with two names), "
                f"e.g. {printable(os.path.relpath(twice[0], root))}"
            )
    train = set(parts["train"].files)
    for part in list(parts.values())[1:]:
        shared = [path for file, path in zip(part.files, part.paths, strict=True) if file in train]
        if shared:
            found.append(
                f"in {part.name} and in train: {len(shared)} of {_count(len(part.paths))} of {part.name} (links), "
                f"e.g. {printable(os.path.relpath(shared[0], root))}: the {part.name} numbers are too good"
            )
    return found


def _count(number: int) -> str:
    return f"{number} file{'s' * (number != 1)}"
