"""Waits for the end of the process that started a Ray cluster, kills what is left of the cluster, removes its folder.

Ray's own agents survive a SIGKILL of that process. This file runs as a script of its own, in a moment: it imports
nothing of bnbench.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def belongs(process: Path, folder: str) -> bool:
    """Whether it is one of Ray's, by its words or its title, and has to do with the folder."""
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes()
        if folder.encode() in words:
            return True
        links = (process / "fd").iterdir() if words.startswith(b"ray::") else ()
        return any(os.readlink(link).startswith(folder) for link in links)
    return False


def left(folder: str) -> Iterator[int]:
    """The numbers of the processes that belong to the cluster, where the system shows them."""
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid() and belongs(process, folder):
            yield int(process.name)


def clean(folder: str) -> None:
    """Kill them, also those that the others start meanwhile, and remove the folder."""
    for _ in range(50):
        found = list(left(folder))
        for number in found:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        if not found:
            break
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Standard input ends when the process that started the cluster closes it, or dies."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.stdin.buffer.read()
    clean(sys.argv[1])


if __name__ == "__main__":
    main()
