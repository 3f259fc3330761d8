"""Which process does something: a name that no other process has, and whether that process still lives.

Processes on other machines can't be asked: there a heartbeat has to tell (see `bnbench.results.claims`).
"""

from __future__ import annotations

import functools
import os
import platform
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """A process. host: the machine's name. machine: its number, which its other boots share. boot: of the machine.

    space: the pid's name space; a container has its own. start: when the process began, in ticks of its machine, as a
    pid is used again. word: random, so that no two owners are alike, even of one process.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    start: str
    word: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_dead(self) -> bool | None:
        """Whether the process is gone; None where that can't be known from here."""
        here = _machine()
        if (self.host, self.machine) != (here["host"], here["machine"]):
            return None
        if self.boot != here["boot"]:
            # a container may share name and number with one on another machine
            return True if self.machine and self.space == here["space"] else None
        if self.space != here["space"]:
            return None
        return not _exists(self.pid) or _start_of(self.pid) != self.start


def this_process() -> Owner:
    """The process that calls, with a new word."""
    pid = os.getpid()
    return Owner(**_machine(), pid=pid, start=_start_of(pid), word=secrets.token_hex(8))


def owner_of(values: Mapping[str, Any]) -> Owner:
    """From the values of its fields. Raises KeyError, TypeError and ValueError."""
    names = ("host", "machine", "boot", "space", "start", "word")
    return Owner(**{name: str(values[name]) for name in names}, pid=int(values["pid"]))


def age_of_this_process() -> float:
    """Seconds since it began; 0 where the system does not tell."""
    with suppress(AttributeError, ValueError, OSError):
        ticks = int(_start_of(os.getpid())) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)
    return 0.0


@functools.cache
def _machine() -> dict[str, str]:
    """What all processes of this machine and name space share."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return {
        "host": platform.node() or "localhost",
        "machine": _line("/etc/machine-id"),
        "boot": _line("/proc/sys/kernel/random/boot_id"),
        "space": space,
    }


def _line(path: str) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="ascii").strip()
    return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Killed, and waiting for its parent to notice: it does nothing more."""
    return _stat(pid)[:1] in (["Z"], ["X"])


def _start_of(pid: int) -> str:
    """When the process began; "" where the system does not tell."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name in brackets, which may hold spaces; none where there are none."""
    with suppress(OSError):
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    return []
