"""Data that several processes of a machine want at the same time: one of them fetches and unpacks, the others wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def prepared_once(folder: Path) -> Iterator[None]:
    """Inside, this process prepares what lies in the folder, or another one of this machine has done so.

    Who comes second waits for the first one, and then enters beside others: what it finds is ready. Where the system
    has no locks, or the file system, everybody enters.
    """
    try:
        import fcntl  # not there on Windows

        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (ImportError, OSError):
        yield
        return
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with suppress(OSError):
                fcntl.flock(number, fcntl.LOCK_SH)
                fcntl.flock(number, fcntl.LOCK_UN)
        yield
    finally:
        os.close(number)
