"""Data sets in the formats of Hugging Face: images with a class each, from local files or from its hub.

Images are decoded once, column by column, and kept as bytes: later runs read neither the files nor the package.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import PIL
import torch
from pydantic import BeforeValidator, Field

from bnbench.base.errors import DataError
from bnbench.base.files import to_json
from bnbench.data import Dataset, datasets
from bnbench.data.array_cache import hash_of, keep, read_kept, state_of
from bnbench.data.class_names import twin_notes
from bnbench.data.decoding import decode, sentences_on
from bnbench.data.huggingface_columns import Columns, columns_of, labels_of
from bnbench.data.huggingface_source import HUB, Place, files_of, load_parts
from bnbench.data.imagefolder import MAX_PIXELS, Level, Side
from bnbench.data.part_checks import check_scales, copies
from bnbench.data.pictures import Decoding, Encoded, Resize
from bnbench.data.progress import say
from bnbench.data.tally import listed, printable
from bnbench.data.tensors import make_dataset

#: Change it where the same files would now give other arrays.
CACHE_VERSION = 1


def _place(given: Any) -> Any:
    """A name on the hub stays as it is; everything else is a path."""
    return given if isinstance(given, str) and given.startswith(HUB) else Path(str(given))


@datasets.register("huggingface", augment="none")
def huggingface(
    data_dir: Path,
    *,
    path: Annotated[Path | str, BeforeValidator(_place)],
    revision: str | None = None,
    config: str | None = None,
    image: str | None = None,
    label: str | None = None,
    image_size: Side | tuple[Side, Side] | None = None,
    resize: Resize = "crop",
    channels: Literal[1, 3] = 3,
    background: Literal["white", "black"] | tuple[Level, Level, Level] = "white",
    max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS,
) -> Dataset:
    """Images and classes as Hugging Face keeps them: parquet, arrow, imagefolder, save_to_disk, or a name on its hub.

    Needs the package datasets: pip install 'bnbench[huggingface]'. The splits are train, test and, where there is one,
    validation. Decoded once; the pixels are kept in data_dir/huggingface-cache until a file changes. Raises DataError.

    path: a file or folder; hf://OWNER/NAME is downloaded from the hub
    revision: of a data set of the hub, a commit, tag or branch; it is part of a run's identity
    config: of a data set with several, which one
    image: the column of the images; none: the only one
    label: the column of the classes; none: the only one that holds classes, or the one called label
    image_size: one number or [height, width]; none: the size that all images have in common
    resize: crop scales the image until it covers the size and cuts the centre, pad shows all of it on the
        background, stretch changes its aspect
    channels: 3 colour, 1 gray
    background: the colour behind transparent pixels and around padded images
    max_pixels: a larger image is refused
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    behind = {"white": (255, 255, 255), "black": (0, 0, 0)}
    colour = behind[background] if isinstance(background, str) else background
    decoding = Decoding(size, resize, channels, colour, max_pixels)
    place = Place(path if isinstance(path, str) else path.expanduser(), revision, config)
    read = _kept_or_read(data_dir / "huggingface-cache", place, Columns(image, label), decoding)
    names, notes = json.loads(str(read["names"])), json.loads(str(read["notes"]))
    pairs = {
        part: (torch.from_numpy(read[f"x_{part}"]), torch.from_numpy(read[f"y_{part}"]))
        for part in ("train", "val", "test")
        if f"x_{part}" in read
    }
    images = {part: pair[0] for part, pair in pairs.items()}
    twice, leaks = copies(images)
    absent = [name for number, name in enumerate(names) if not (pairs["train"][1] == number).any()]
    if absent:
        notes.append(f"{len(absent)} of {len(names)} classes have no image in train: {listed(absent, 3)}")
    return make_dataset(
        printable(place),
        pairs["train"],
        pairs["test"],
        names,
        val=pairs.get("val"),
        notes=(*notes, *twin_notes(names), *twice),
        cautions=(*check_scales(printable(place), images, refuse=False), *leaks),
    )


Arrays = Mapping[str, Any]


def _kept_or_read(cache_dir: Path, place: Place, columns: Columns, decoding: Decoding) -> Arrays:
    """The arrays of the cache, where they are of these files; else read, and kept."""
    makers = (CACHE_VERSION, PIL.__version__, columns.image, columns.label, vars(decoding))
    name = hash_of([str(place), place.revision, place.config, *makers])
    cache, key = cache_dir / f"{name}.npz", _key(place, makers)
    if key and (kept := read_kept(cache, lambda _: key)):
        return kept
    arrays = _read(place, columns, decoding)
    try:
        if key:
            keep(cache, key, arrays)
    except OSError as error:
        say(
            f"The images can't be kept in {cache_dir} ({error.strerror or error}); the next run decodes again."
        )
    return arrays


def _key(place: Place, makers: Sequence[object]) -> str | None:
    """What stands for the content: the state of local files, a commit of the hub; None for a branch, which moves."""
    if place.hub:
        commit = re.fullmatch("[0-9a-f]{40}", place.revision or "")
        return hash_of([place.hub, place.config, place.revision, *makers]) if commit else None
    root, files = files_of(place)
    with contextlib.suppress(OSError):
        return state_of(root, files, *makers)
    return None


def _read(place: Place, columns: Columns, decoding: Decoding) -> dict[str, Any]:
    """Pixels and class indices of each part, and the names of the classes."""
    with load_parts(place) as parts:
        image, label = columns_of(place, parts, columns)
        labels, names = labels_of(place, parts, label)
        encoded = {part: _encoded(place, part, each.columns[image]) for part, each in parts.items()}
        paths = [picture for of_part in encoded.values() for picture in of_part]
        title = f"Decoding {len(paths)} images of {printable(place)}"
        pixels, tally = decode(
            paths, decoding, title=title, root=None, name=f"huggingface: {printable(place)}"
        )
    notes = sentences_on(tally, pixels, decoding, "huggingface")
    ends = np.cumsum([len(of_part) for of_part in encoded.values()])
    arrays = dict(zip((f"x_{part}" for part in encoded), np.split(pixels, ends[:-1]), strict=True))
    arrays |= {f"y_{part}": np.asarray(values, np.int64) for part, values in labels.items()}
    return {
        **arrays,
        "names": np.array(to_json(names, compact=True)),
        "notes": np.array(to_json(notes, compact=True)),
    }


def _encoded(place: Place, part: str, column: Any) -> list[Encoded]:
    """The files of a column of images. Raises DataError for a row without one."""
    pictures = []
    for index, cell in enumerate(column.to_pylist()):
        name = f"{part}[{index}]"
        if cell is None or not (cell.get("bytes") or cell.get("path")):
            raise DataError(
                f"{printable(place)}: {name} has no image.",
                "No sample is left out in silence.",
                "ds = ds.filter(lambda row: row['image'] is not None), and save it again.",
            )
        try:
            content = cell["bytes"] or Path(cell["path"]).read_bytes()
        except OSError as error:
            raise DataError(
                f"{printable(place)}: {name}: {cell['path']} can't be read: {error.strerror}.",
                "The table names files instead of holding them.",
                "put the files there, or save the table with its images.",
            ) from None
        pictures.append(Encoded(content, f"{name} ({cell['path']})" if cell.get("path") else name))
    return pictures
