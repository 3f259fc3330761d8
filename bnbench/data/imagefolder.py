"""The user's own images: one folder a class.

path/train/CLASS/*.jpg    path/test/CLASS/*.jpg    and, where there is one, path/val/CLASS/*.jpg
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from bnbench.data import Dataset, datasets
from bnbench.data.class_names import twin_notes
from bnbench.data.decoding import decoded
from bnbench.data.folders import (
    LEFT_OUT,
    relative,
)
from bnbench.data.group_file import read_groups
from bnbench.data.image_parts import Part, class_names_of, doubles, missing_classes, read_parts
from bnbench.data.part_checks import check_scales, copies
from bnbench.data.pictures import Decoding, Resize
from bnbench.data.split import Chosen, Labels, Sampling, choose
from bnbench.data.tally import Tally, printable
from bnbench.data.tensors import index_of, make_dataset

#: Pillow's own limit: beyond it a small file can fill the memory.
MAX_PIXELS = 178_956_970

Side = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Level = Annotated[int, Field(ge=0, le=255, strict=True)]


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
    parts = read_parts(root, tally)
    names = class_names_of(root, parts, tally)
    decoding = Decoding(_size(image_size), resize, channels, _colour(background), max_pixels)
    labels = _labels(parts, names)
    group_names = read_groups(groups, root, parts["train"].paths) if groups else None
    chosen = _choice(labels, group_names, sampling) if sampling else None
    files = {name: (part.paths, labels[name]) for name, part in parts.items()}
    if chosen is not None:
        files, group_names = _only(files, chosen), None
    paths = [file for image_paths, _ in files.values() for file in image_paths]
    pixels, changes = decoded(root, paths, decoding, data_dir / "imagefolder-cache", part_of=bool(chosen))
    cuts = torch.split(torch.from_numpy(pixels), [len(image_paths) for image_paths, _ in files.values()])
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
        notes=[
            *tally.sentences(LEFT_OUT),
            *twin_notes(names),
            *missing_classes(parts, names),
            *changes,
            *twice,
        ],
        cautions=(*doubles(root, parts), *check_scales(printable(path), images, refuse=False), *leaks),
        chosen=chosen,
    )


def _labels(parts: Mapping[str, Part], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The class indices of each part."""
    index = {name: place for place, name in enumerate(names)}
    return {name: torch.tensor([index[label] for label in part.labels]) for name, part in parts.items()}


def _choice(
    labels: Mapping[str, torch.Tensor], group_names: Sequence[str] | None, sampling: Sampling
) -> Chosen:
    groups = index_of(group_names) if group_names else None
    return choose(Labels(labels["train"], labels.get("val"), labels["test"], groups), sampling)


def _size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def _colour(background: str | tuple[int, int, int]) -> tuple[int, int, int]:
    """Red, green and blue."""
    if isinstance(background, tuple):
        return background
    return (255, 255, 255) if background == "white" else (0, 0, 0)


def _copies(
    images: Mapping[str, torch.Tensor],
    paths: Mapping[str, Sequence[Path]],
    parts: Mapping[str, Part],
    root: Path,
) -> tuple[list[str], list[str]]:
    """Apply `copies` to files that are not links to one another; `doubles` reports links."""
    known = {path: file for part in parts.values() for path, file in zip(part.paths, part.files, strict=True)}
    train = {known[path] for path in paths["train"]}
    other = {
        name: [place for place, path in enumerate(image_paths) if name == "train" or known[path] not in train]
        for name, image_paths in paths.items()
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
