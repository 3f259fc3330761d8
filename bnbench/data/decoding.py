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
SHOWN = 5


def decoded(
    root: Path, paths: Sequence[Path], how: Decoding, cache_dir: Path, part_of: bool = False
) -> tuple[Pixels, list[str]]:
    """The pixels of `paths` (all below `root`), (N, channels, height, width), and what was lost, a sentence each.

    part_of: these are a part of the images, and kept beside those of other parts. From the cache where no
    file and no option changed since. Where the cache can't be written, that is
    said on stderr and nothing else changes. Raises DataError with the images that can't be read.
    """
    names = sorted(relative(path, root) for path in paths) if part_of else None
    place = hash_of([os.fspath(root.resolve()), asdict(how), part_of, names])
    cache, key = cache_dir / f"{place}.npz", state_of(root, paths, CACHE_VERSION, PIL.__version__)
    kept = _kept(cache, key, (len(paths), how.channels)) if key else None
    if kept is not None:
        return kept
    pixels, tally = decode(paths, how, title=f"Decoding {len(paths)} images of {printable(root)}", root=root)
    notes = _sentences(tally, pixels, how)
    try:
        if key:
            keep(cache, key, {"pixels": pixels, "notes": np.array(to_json(notes, compact=True))})
    except OSError as error:
        say(
            f"The decoded images can't be kept in {cache_dir} ({error.strerror or error}); the next run decodes again."
        )
    return pixels, notes


def _kept(cache: Path, key: str, wanted: tuple[int, int]) -> tuple[Pixels, list[str]] | None:
    """The pixels and notes, or None where there are none, or they are of other files, or damaged."""
    kept = read_kept(cache, lambda _: key)
    pixels = kept.get("pixels", np.empty(0))
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:2] != wanted or "notes" not in kept:
        return None
    return pixels, list(json.loads(str(kept["notes"])))


def decode(paths: Sequence[Path], how: Decoding, *, title: str, root: Path) -> tuple[Pixels, Tally]:
    """Decode all. Raises DataError with the first few of the images that can't be read, and how many there are."""
    with pillow_is_quiet():
        first = _first(paths[0], how)
        pixels = _room(len(paths), first.shape)

        def work(start: int) -> tuple[list[str], list[Remark]]:
            faults, remarks = [], []
            for index in range(start, min(start + CHUNK, len(paths))):
                try:
                    found, seen = read_picture(paths[index], how)
                    _check_shape(paths[index], found, paths[0], first)
                except Unusable as fault:
                    faults.append(printable(fault))
                else:
                    pixels[index] = found
                    remarks += seen
            return faults, remarks

        faults, tally = [], Tally()
        with progress(title, len(paths)) as advance, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            try:
                for wrong, remarks in pool.map(work, range(0, len(paths), CHUNK)):
                    faults += wrong
                    for remark in remarks:
                        tally.add(remark.kind, os.path.relpath(remark.example, root), remark.value)
                    advance(CHUNK)
            except BaseException:  # Ctrl-C should not wait for what has not begun
                pool.shutdown(cancel_futures=True)
                raise
    _raise_faults(faults, len(paths))
    return pixels, tally


def _sentences(tally: Tally, pixels: Pixels, how: Decoding) -> list[str]:
    """What was lost. Raises DataError where 16-bit images would lose nearly everything."""
    largest = tally.largest("depth")
    if largest is not None and largest < DARK:
        raise DataError(
            f"imagefolder: {tally.count('depth')} images have 16 bits a value, but none is above {largest:.0f} of "
            f"65535: 8 bits would keep {int(largest) // 256 + 1} levels of them.",
            "They are probably of 10, 12 or 14 bits.",
            "scale them to 0..255, or use an npz file, which keeps every value.",
        )
    height, width = pixels.shape[2:]
    white = {(255, 255, 255): "white", (0, 0, 0): "black"}
    background = white.get(how.background, f"the colour {list(how.background)}")
    return tally.sentences(CHANGED, total=len(pixels), h=height, w=width, background=background)


def _raise_faults(faults: list[str], total: int) -> None:
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise DataError(
            f"imagefolder: {len(faults)} of {total} images can't be used:\n  "
            + "\n  ".join([*faults[:SHOWN], *more]),
            "No image is left out in silence.",
            "repair or delete them; where sizes differ, give one for all, e.g. image_size: 32",
        )


def _first(path: Path, how: Decoding) -> Pixels:
    """The first image, whose size all others must have."""
    try:
        return read_picture(path, how)[0]
    except Unusable as fault:
        _raise_faults([printable(fault)], 1)
        raise


def _room(count: int, shape: tuple[int, ...]) -> Pixels:
    """An array for all. Raises DataError where it can't fit into memory."""
    size = count * int(np.prod(shape))
    try:
        if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError
        return np.empty((count, *shape), np.uint8)
    except MemoryError:
        raise DataError(
            f"imagefolder: {count} images of {shape[1]}x{shape[2]} (height x width) are {size / 2**30:.0f} GiB.",
            "All of them are kept in memory, and this machine has less.",
            "a smaller image_size, such as image_size: 64.",
        ) from None


def _check_shape(path: Path, found: Pixels, first_path: Path, first: Pixels) -> None:
    if found.shape != first.shape:
        height, width = found.shape[1:]
        raise Unusable(
            f"{path}: it is {width}x{height}, and {first_path} is {first.shape[2]}x{first.shape[1]} (width x height)"
        )
