"""Image files become one array of pixels: decoded once, by a few threads, and kept on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL

from bnbench.base.errors import DataError
from bnbench.base.files import to_json
from bnbench.data.array_cache import hash_of, keep, read_kept, state_of
from bnbench.data.folders import relative
from bnbench.data.pictures import (
    CHANGED,
    DARK,
    Decoding,
    Encoded,
    Pixels,
    Unusable,
    pillow_is_quiet,
    read_picture,
)
from bnbench.data.progress import progress, say
from bnbench.data.tally import Remark, Tally, printable

#: Change it where the same files would now give other pixels.
CACHE_VERSION = 2
CHUNK = 64
MOST_FAULTS = 5


def decoded(
    root: Path, paths: Sequence[Path], decoding: Decoding, cache_dir: Path, part_of: bool = False
) -> tuple[Pixels, list[str]]:
    """The pixels of `paths` (all below `root`), (N, channels, height, width), and one sentence for each kind of loss.

    Reads the cache if neither a file nor an option has changed. part_of: `paths` is a subset of the images
    and gets its own cache file. If the cache can't be written, a message goes to stderr and nothing else
    changes. Raises DataError with the unreadable images.
    """
    names = sorted(relative(path, root) for path in paths) if part_of else None
    place = hash_of([os.fspath(root.resolve()), asdict(decoding), part_of, names])
    cache, key = cache_dir / f"{place}.npz", state_of(root, paths, CACHE_VERSION, PIL.__version__)
    kept = _kept(cache, key, (len(paths), decoding.channels)) if key else None
    if kept is not None:
        return kept
    pixels, tally = decode(
        paths, decoding, title=f"Decoding {len(paths)} images of {printable(root)}", root=root
    )
    notes = sentences_on(tally, pixels, decoding)
    try:
        if key:
            keep(cache, key, {"pixels": pixels, "notes": np.array(to_json(notes, compact=True))})
    except OSError as error:
        say(
            f"The decoded images can't be kept in {cache_dir} ({error.strerror or error}); the next run decodes again."
        )
    return pixels, notes


def _kept(cache: Path, key: str, wanted: tuple[int, int]) -> tuple[Pixels, list[str]] | None:
    """The cached pixels and notes; None if they are missing, damaged or belong to other files."""
    kept = read_kept(cache, lambda _: key)
    pixels = kept.get("pixels", np.empty(0))
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:2] != wanted or "notes" not in kept:
        return None
    return pixels, list(json.loads(str(kept["notes"])))


def decode(
    paths: Sequence[Path | Encoded],
    decoding: Decoding,
    *,
    title: str,
    root: Path | None,
    name: str = "imagefolder",
) -> tuple[Pixels, Tally]:
    """Decode all. Raises DataError with the first few of the images that can't be read, and how many there are.

    root: remarks name files relative to it; None: by their own names. name: of the data set, for messages.
    """
    with pillow_is_quiet():
        first = _first(paths[0], decoding, name)
        pixels = _room(len(paths), first.shape, name)

        def work(start: int) -> tuple[list[str], list[Remark]]:
            faults, remarks = [], []
            for index in range(start, min(start + CHUNK, len(paths))):
                try:
                    picture, seen = read_picture(paths[index], decoding)
                    _check_shape(paths[index], picture, paths[0], first)
                except Unusable as fault:
                    faults.append(printable(fault))
                else:
                    pixels[index] = picture
                    remarks += seen
            return faults, remarks

        faults, tally = [], Tally()
        with progress(title, len(paths)) as advance, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            try:
                for wrong, remarks in pool.map(work, range(0, len(paths), CHUNK)):
                    faults += wrong
                    for remark in remarks:
                        example = os.path.relpath(remark.example, root) if root else remark.example
                        tally.add(remark.kind, example, remark.value)
                    advance(CHUNK)
            except BaseException:  # Ctrl-C should not wait for what has not begun
                pool.shutdown(cancel_futures=True)
                raise
    _raise_faults(faults, len(paths), name)
    return pixels, tally


def sentences_on(tally: Tally, pixels: Pixels, decoding: Decoding, name: str = "imagefolder") -> list[str]:
    """Sentences on the lost information. Raises DataError where 16-bit images would lose nearly all of it."""
    largest = tally.largest("depth")
    if largest is not None and largest < DARK:
        raise DataError(
            f"{name}: {tally.count('depth')} images have 16 bits a value, but none is above {largest:.0f} of "
            f"65535: 8 bits would keep {int(largest) // 256 + 1} levels of them.",
            "They are probably of 10, 12 or 14 bits.",
            "scale them to 0..255, or use an npz file, which keeps every value.",
        )
    height, width = pixels.shape[2:]
    white = {(255, 255, 255): "white", (0, 0, 0): "black"}
    background = white.get(decoding.background, f"the colour {list(decoding.background)}")
    return tally.sentences(CHANGED, total=len(pixels), h=height, w=width, background=background)


def _raise_faults(faults: list[str], total: int, name: str) -> None:
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise DataError(
            f"{name}: {len(faults)} of {total} images can't be used:\n  "
            + "\n  ".join([*faults[:MOST_FAULTS], *more]),
            "No image is left out in silence.",
            "repair or delete them; where sizes differ, give one for all, e.g. image_size: 32",
        )


def _first(path: Path | Encoded, decoding: Decoding, name: str) -> Pixels:
    """The first image, whose size all others must have."""
    try:
        return read_picture(path, decoding)[0]
    except Unusable as fault:
        _raise_faults([printable(fault)], 1, name)
        raise


def _room(count: int, shape: tuple[int, ...], name: str) -> Pixels:
    """An array for all. Raises DataError where it can't fit into memory."""
    size = count * int(np.prod(shape))
    try:
        if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError
        return np.empty((count, *shape), np.uint8)
    except MemoryError:
        raise DataError(
            f"{name}: {count} images of {shape[1]}x{shape[2]} (height x width) are {size / 2**30:.0f} GiB.",
            "All of them are kept in memory, and this machine has less.",
            "a smaller image_size, such as image_size: 64.",
        ) from None


def _check_shape(path: Path | Encoded, picture: Pixels, first_path: Path | Encoded, first: Pixels) -> None:
    if picture.shape != first.shape:
        height, width = picture.shape[1:]
        raise Unusable(
            f"{path}: it is {width}x{height}, and {first_path} is {first.shape[2]}x{first.shape[1]} (width x height)"
        )
