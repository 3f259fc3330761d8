"""The user's own images with a class at every pixel: a folder of images beside a folder of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import ExifTags, Image
from pydantic import Field

from bnbench.base.errors import DataError
from bnbench.data import Dataset, datasets
from bnbench.data.decoding import decoded
from bnbench.data.folders import images_below, relative
from bnbench.data.imagefolder import MAX_PIXELS, Side
from bnbench.data.npz_file import Array
from bnbench.data.part_checks import check_scales, copies
from bnbench.data.pictures import Decoding, pillow_is_quiet
from bnbench.data.tally import Tally, listed, printable
from bnbench.data.targets import MASKS, read_masks
from bnbench.data.tensors import IGNORED, make_dataset

#: Formats of Pillow that change the values of pixels.
_LOSSY = ("JPEG", "MPO")
LAYOUT = "PATH/train/images/1.jpg with PATH/train/masks/1.png, and the same in PATH/test"


@datasets.register("maskfolder", task=MASKS)
def maskfolder(
    data_dir: Path,
    *,
    path: Path,
    image_size: Side | tuple[Side, Side] | None = None,
    channels: Literal[1, 3] = 3,
    max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS,
) -> Dataset:
    """Your own images with masks: PATH/train/images/NAME.jpg with PATH/train/masks/NAME.png, and the same in test.

    A mask is a PNG with a palette or in gray, whose values are class ids; 255 marks pixels that count nowhere. The
    classes are the ids that the masks of train have. PATH/val is the validation part, where it is there. Raises
    DataError.

    path: the folder PATH
    image_size: one number or [height, width], to which images (bilinear) and masks (nearest) are stretched; none: the
        size that all images have in common
    channels: 3 colour, 1 gray
    max_pixels: a larger picture is refused
    """
    root = path.expanduser()
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    pairs = _pairs(root)
    _check_upright(root, [image for of_part in pairs.values() for image, _ in of_part])
    decoding = Decoding(size, "stretch", channels, (255, 255, 255), max_pixels)
    paths = [image for of_part in pairs.values() for image, _ in of_part]
    pixels, changes = decoded(root, paths, decoding, data_dir / "imagefolder-cache")
    cuts = torch.split(torch.from_numpy(pixels), [len(of_part) for of_part in pairs.values()])
    images = dict(zip(pairs, cuts, strict=True))
    sizes = {part: (len(of_part), *of_part.shape[2:]) for part, of_part in images.items()}
    with pillow_is_quiet():
        masks = {
            part: np.stack([_mask(root, *pair, size) for pair in of_part]) for part, of_part in pairs.items()
        }
    place = printable(path)
    targets, names = read_masks(place, masks, sizes)
    whole = {part: (images[part], targets[part]) for part in pairs}
    twice, leaks = copies(images)
    return make_dataset(
        place,
        whole["train"],
        whole["test"],
        names,
        val=whole.get("val"),
        notes=[*changes, *twice],
        cautions=(*check_scales(place, images, refuse=False), *leaks),
    )


Pair = tuple[Path, Path]


def _pairs(root: Path) -> Mapping[str, Sequence[Pair]]:
    """Image and mask of each sample of each part, by the name of their files. Raises DataError."""
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"maskfolder: {root.absolute()} {state}.", "A folder is wanted.", f"lay it out as {LAYOUT}."
        )
    parts = [part for part in ("train", "val", "test") if (root / part).is_dir()]
    for part in ("train", "test"):
        if part not in parts:
            there = ", ".join(sorted(printable(entry.name) for entry in root.iterdir())) or "nothing"
            raise DataError(
                f'maskfolder: {root.absolute()} has no folder "{part}".',
                f"There is: {there}.",
                f"lay it out as {LAYOUT}.",
            )
    return {part: _pairs_of(root, root / part) for part in parts}


def _pairs_of(root: Path, folder: Path) -> Sequence[Pair]:
    by_kind: dict[str, dict[str, Path]] = {}
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise DataError(
                f'maskfolder: {folder.absolute()} has no folder "{kind}".',
                "An image and its mask have one name in two folders.",
                f"lay it out as {LAYOUT}.",
            )
        files: dict[str, Path] = {}
        for _, file in images_below(folder / kind, root, Tally()):
            name = str(Path(relative(file, folder / kind)).with_suffix(""))
            if name in files:
                raise DataError(
                    f"maskfolder: {relative(files[name], root)} and {relative(file, root)} have one name.",
                    f"A {kind[:-1]} is known by its name without the suffix.",
                    "rename one of them with its partner, or remove it.",
                )
            files[name] = file
        by_kind[kind] = files
    images, masks = by_kind["images"], by_kind["masks"]
    for one, other, names in (
        ("image", "mask", set(images) - set(masks)),
        ("mask", "image", set(masks) - set(images)),
    ):
        if names:
            raise DataError(
                f"maskfolder: {len(names)} {one}{'s' if len(names) > 1 else ''} in {folder.absolute()} without a "
                f"{other}: {listed(sorted(names))}.",
                "An image and its mask have one name, with any suffix.",
                f"add the {other}s, or remove the {one}s.",
            )
    if not images:
        raise DataError(
            f"maskfolder: {(folder / 'images').absolute()} has no images.", fix=f"lay it out as {LAYOUT}."
        )
    return [(images[name], masks[name]) for name in sorted(images)]


def _check_upright(root: Path, paths: Sequence[Path]) -> None:
    """Raises DataError for an image that EXIF turns: its mask would not turn with it."""
    for path in paths:
        try:
            with Image.open(path) as image:
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:  # what can't be read is reported where it is decoded
            continue
        if orientation in range(2, 9):
            raise DataError(
                f"maskfolder: {relative(path, root)} is turned by its EXIF orientation ({orientation}).",
                "A mask has no such mark, so that the two would not fit.",
                "turn the picture itself: PIL.ImageOps.exif_transpose(image).save(...), and remove the mark.",
            )


def _mask(root: Path, image: Path, path: Path, size: tuple[int, int] | None) -> Array:
    """The class ids (height, width) of one mask. Raises DataError."""
    name = relative(path, root)
    try:
        with Image.open(path) as mask, Image.open(image) as picture:
            mode, sides, wanted = mask.mode, mask.size, picture.size
            if mode not in ("P", "L", "1", "I", "I;16"):
                raise DataError(
                    f"maskfolder: {name} holds colours ({mode}), not class ids.",
                    "A mask is a PNG with a palette or in gray: the value of a pixel is its class.",
                    "image.convert('P') keeps ids only where the colours are a palette; else map each colour to an id.",
                )
            if mask.format in _LOSSY:
                raise DataError(
                    f"maskfolder: {name} is a {mask.format} file, whose pixels are not the ones that were saved.",
                    "A mask holds class ids, and lossy compression turns them into other ids.",
                    "make the mask again, and save it as PNG.",
                )
            if sides != wanted:
                raise DataError(
                    f"maskfolder: {name} is {sides[0]}x{sides[1]}, and its image {wanted[0]}x{wanted[1]} (width x "
                    "height).",
                    "A mask has a class at every pixel of its image.",
                    "masks of the images' size.",
                )
            stretched = mask.resize((size[1], size[0]), Image.Resampling.NEAREST) if size else mask
            ids = np.asarray(stretched).astype(np.int64)
    except DataError:
        raise
    except Exception as error:  # a decoder may raise anything for a corrupt file
        raise DataError(
            f"maskfolder: {name} can't be read: {error or type(error).__name__}.", fix="write it again."
        ) from error
    if ids.max() > IGNORED:
        raise DataError(
            f"maskfolder: {name} has the id {ids.max()}.",
            f"Class ids are 0 to {IGNORED - 1}, and {IGNORED} marks pixels that are ignored.",
            "number the classes from 0.",
        )
    return ids
