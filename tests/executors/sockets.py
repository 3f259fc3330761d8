"""Addresses that processes listen to, from /proc."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path

_LISTEN = "0A"


def listening(processes: Iterable[int]) -> list[str]:
    """The address of each socket of TCP at which one of these processes waits for connections."""
    inodes = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    return [address for name in ("tcp", "tcp6") for address, inode in _of_table(name) if inode in inodes]


def _of_table(name: str) -> list[tuple[str, str]]:
    rows = [line.split() for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [(_address(row[1].partition(":")[0]), row[9]) for row in rows if row[3] == _LISTEN]


def _address(text: str) -> str:
    """Words of four bytes each, in the order of this machine."""
    parts = [bytes.fromhex(text[first : first + 8])[::-1] for first in range(0, len(text), 8)]
    if len(parts) == 1:
        return socket.inet_ntop(socket.AF_INET, parts[0])
    return socket.inet_ntop(socket.AF_INET6, b"".join(parts)).removeprefix("::ffff:")
