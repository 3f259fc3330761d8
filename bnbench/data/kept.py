"""Arrays that were costly to get from files, kept on disk for as long as those files are as they were."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def hash_of(value: object) -> str:
    """Of anything that JSON can hold: 32 hex digits."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def state_of(root: Path, paths: Iterable[Path], *makers: object) -> str:
    """Stands for the files as they are now: relative path, size and time of change of each.

    makers: what else the arrays depend on, such as versions. Raises OSError where a file is gone.
    """
    files = []
    for path in paths:
        stat = path.stat()
        files.append((os.path.relpath(path, root), stat.st_size, stat.st_mtime_ns))
    return hash_of([*makers, files])


def read_kept(place: Path, key_of: Callable[[Arrays], str]) -> dict[str, Array]:
    """The arrays; none where there are none, where they are damaged (the zip has checksums), or of another key.

    key_of: the key that they should have, from the arrays, each of which is read when it is looked at.
    """
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive) if str(archive["key"]) == key_of(archive) else {}
    except Exception:  # a damaged zip can raise anything
        return {}


def keep(place: Path, key: str, arrays: Arrays) -> None:
    """Whole or not at all: written aside, then renamed. Raises OSError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_suffix(f".{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            np.savez(file, key=np.array(key), **arrays)  # type: ignore[arg-type]
        os.replace(aside, place)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
