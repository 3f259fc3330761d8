"""Arrays that were costly to get from files, kept on disk for as long as those files are as they were."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnbench.base.files import key_text, written_aside
from bnbench.data.folders import relative

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def hash_of(value: object) -> str:
    """The hash of a JSON value: 32 hex digits."""
    return hashlib.blake2b(key_text(value).encode(), digest_size=16).hexdigest()


#: Seconds after its last change in which a file may change again and look the same: clocks of file systems tick.
SETTLED = 1.0


def state_of(root: Path, paths: Iterable[Path], *makers: object) -> str | None:
    """A hash of the files' state; None if a file changed too recently to distinguish it from its next state.

    It covers each file's relative path, size, both change times and inode, so it detects two files that swap
    names and an edited file with its old time restored. makers: other inputs of the arrays, such as
    versions. Raises OSError if a file is missing.
    """
    files, latest = [], 0
    for path in paths:
        stat = path.stat()
        latest = max(latest, stat.st_ctime_ns)
        numbers = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        files.append((relative(path, root), *numbers))
    return hash_of([*makers, files]) if time.time_ns() - latest >= SETTLED * 1e9 else None


def read_kept(place: Path, key_of: Callable[[Arrays], str | None]) -> dict[str, Array]:
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
    with written_aside(place) as aside, aside.open("xb") as file:
        np.savez(file, key=np.array(key), **arrays)  # type: ignore[arg-type]
