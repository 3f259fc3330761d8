"""Image files become one array of pixels: decoded once, by a few threads, and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from bnbench.data.kept import hash_of, keep, read_kept, state_of
from bnbench.data.progress import progress, say
from bnbench.errors import DataError

Pixels = npt.NDArray[np.uint8]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
#: Change it where the same files would now give other pixels.
CACHE_VERSION = 1
CHUNK = 64
SHOWN = 5


@dataclass(frozen=True)
class Decoding:
    """How an image becomes pixels.

    image_size: None keeps its size; a number scales the short side to it and cuts the centre square.
    channels: 3 colour, 1 gray.
    """

    image_size: int | None
    channels: int


class _Fault(Exception):
    """Why one image is of no use."""


def decoded(root: Path, paths: Sequence[Path], how: Decoding, cache_dir: Path) -> Pixels:
    """The pixels of `paths` (all below `root`), (N, channels, height, width).

    From the cache where no file and no option changed since. Where the cache can't be written, that is
    said on stderr and nothing else changes. Raises DataError with the images that can't be read.
    """
    place = hash_of([str(root.resolve()), how.image_size, how.channels])
    cache, key = cache_dir / f"{place}.npz", state_of(root, paths, CACHE_VERSION, PIL.__version__)
    kept = _kept_pixels(cache, key, (len(paths), how.channels))
    if kept is not None:
        return kept
    pixels = decode(paths, how, title=f"Decoding {len(paths)} images of {root}")
    try:
        keep(cache, key, {"pixels": pixels})
    except OSError as error:
        say(
            f"The decoded images can't be kept in {cache_dir} ({error.strerror or error}); the next run decodes again."
        )
    return pixels


def _kept_pixels(cache: Path, key: str, wanted: tuple[int, int]) -> Pixels | None:
    """The pixels, or None where there are none, or they are of other files, or damaged."""
    pixels = read_kept(cache, lambda _: key).get("pixels", np.empty(0))
    return pixels if pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[:2] == wanted else None


def decode(paths: Sequence[Path], how: Decoding, *, title: str) -> Pixels:
    """Decode all. Raises DataError with the first few of the images that can't be read, and how many there are."""
    height, width = _size(paths[0], how)
    pixels: Pixels = np.empty((len(paths), how.channels, height, width), np.uint8)

    def work(start: int) -> list[str]:
        faults = []
        for index in range(start, min(start + CHUNK, len(paths))):
            try:
                pixels[index] = _pixels(paths[index], how, (height, width), paths[0])
            except _Fault as fault:
                faults.append(str(fault))
        return faults

    faults: list[str] = []
    with progress(title, len(paths)) as advance, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for found in pool.map(work, range(0, len(paths), CHUNK)):
                faults += found
                advance(CHUNK)
        except BaseException:  # Ctrl-C should not wait for what has not begun
            pool.shutdown(cancel_futures=True)
            raise
    _raise_faults(faults, len(paths))
    return pixels


def _raise_faults(faults: list[str], total: int) -> None:
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise DataError(
            f"imagefolder: {len(faults)} of {total} images can't be used:\n  "
            + "\n  ".join([*faults[:SHOWN], *more]),
            "No image is left out in silence.",
            "repair or delete them; where sizes differ, give one for all, e.g. image_size: 32",
        )


def _size(first: Path, how: Decoding) -> tuple[int, int]:
    """Height and width that all images will have."""
    if how.image_size is not None:
        return how.image_size, how.image_size
    try:
        with Image.open(first) as image:
            return image.height, image.width
    except Exception as error:  # a decoder may raise anything for a corrupt file
        _raise_faults([f"{first}: {error}"], 1)
        raise


def _pixels(path: Path, how: Decoding, size: tuple[int, int], first: Path) -> Pixels:
    """One image, (channels, height, width). Raises _Fault."""
    try:
        with Image.open(path) as opened:
            image = _eight_bits(opened, how.channels)
            if how.image_size is not None:
                image = _square(image, how.image_size)
    except Exception as error:  # a decoder may raise anything for a corrupt file
        raise _Fault(f"{path}: {error}") from error
    if (image.height, image.width) != size:
        raise _Fault(
            f"{path}: it is {image.width}x{image.height}, and {first} is {size[1]}x{size[0]} (width x height)"
        )
    array = np.asarray(image)
    return array[None] if how.channels == 1 else array.transpose(2, 0, 1)


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """Gray or RGB. Raises _Fault for more than 8 bits a pixel, which PIL would cut off at 255."""
    if image.mode.startswith(("I", "F")):
        raise _Fault(
            f'its pixels have more than 8 bits (mode "{image.mode}"); convert it, or use an npz file'
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def _square(image: Image.Image, side: int) -> Image.Image:
    """The short side scaled to `side` (bilinear, antialiased), then the centre square."""
    short = min(image.size)
    width, height = (max(side, round(length * side / short)) for length in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))
