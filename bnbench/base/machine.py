"""What this machine, or the container on it, gives to a process: cores, memory, and its killer of processes.

A container's limits are those of its control groups (cgroups), of version 2 or 1; a process is bound by its own group
and by every one above. Free of torch.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bnbench.base.errors import BnbenchError

_PROC = Path("/proc")
#: Fixes for a process that had not enough memory.
LESS_MEMORY = "fewer --jobs, a smaller batch_size, or fewer seeds in one stack (engine: sequential)."
#: Of torch's allocator: "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to
#: allocate 4000000000000 bytes".
_ASKED = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")
_OUT_OF_MEMORY = re.compile(r"\bout of memory\b|Cannot allocate memory", re.IGNORECASE)
#: Version 1 says "no limit" with a number as large as this.
_NO_LIMIT = 2**60
_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes of memory. limit: what this process and its children may have together. free: what they may still have.

    None where the system does not say. container: whether a control group is what limits them.
    """

    limit: int | None
    free: int | None
    container: bool = False


def count_cores(proc: Path = _PROC) -> int:
    """Cores that this process may use: of those that it may run on, as many as its container's quota pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(proc) if quota > 0]
    return max(1, min([cores, *quotas]))


def memory(proc: Path = _PROC) -> Memory:
    """The memory of this machine and its containers, as of now."""
    total, free = _of_the_machine(proc)
    limits, frees, container = [total], [free], False
    for group, version in _groups(proc, "memory"):
        limit, used = _limit_and_use(group, version)
        if limit is None:
            continue
        container = container or total is None or limit < total
        limits.append(limit)
        frees.append(None if used is None else max(0, limit - used))
    return Memory(_least(limits), _least(frees), container)


def killed_for_memory(proc: Path = _PROC) -> int:
    """How many processes of this container the system's out-of-memory killer has ended; without one, of this machine.

    Only the difference between two calls says something. 0 where the system does not count.
    """
    for group, version in _groups(proc, "memory"):
        for line in _lines(group / ("memory.events" if version == 2 else "memory.oom_control")):
            if line.startswith("oom_kill "):
                return _number(line.split()[1]) or 0
    counted = (line.split()[1] for line in _lines(proc / "vmstat") if line.startswith("oom_kill "))
    return _number(next(counted, "")) or 0


def why_killed(
    signal: int, killed_before: int, estimate: int | None = None, proc: Path = _PROC
) -> tuple[str, str]:
    """What ended a process that a signal has killed, and the fix, in words.

    killed_before: `killed_for_memory` of when it started. estimate: bytes that it was thought to need.
    """
    if signal != 9:
        return f"was killed by signal {signal}", "fewer --jobs, or a smaller study."
    if killed_for_memory(proc) <= killed_before:
        return (
            "was killed by signal 9, by someone or by the system, which does so when memory runs out",
            LESS_MEMORY,
        )
    known = memory(proc)
    facts = [
        *([] if estimate is None else [f"its estimate: {amount(estimate)}"]),
        *([] if known.limit is None else [f"the {_place(known)} has {amount(known.limit)}"]),
    ]
    beside = f" ({'; '.join(facts)})" if facts else ""
    return f"was ended by the system's out-of-memory killer{beside}", LESS_MEMORY


def why_out_of_memory(error: BaseException) -> str:
    """The sentence for an exception that means that memory has run out, of this machine or of a GPU; "" for others."""
    text = str(error).strip()
    asked = _ASKED.search(text)
    if isinstance(error, BnbenchError) or not (
        isinstance(error, MemoryError) or asked or _OUT_OF_MEMORY.search(text)
    ):
        return ""
    if "CUDA" in text or "MPS" in text:
        return f"memory ran out: {text.partition(chr(10))[0].rstrip('.')}"
    size = f" at {amount(int(asked[1]))} for one tensor" if asked else ""
    place = place_text(memory())
    return f"memory ran out{size} ({type(error).__name__}){f': {place}' if place else ''}"


def amount(number: float) -> str:
    """For example "410 MiB", "2.3 GiB"."""
    return f"{number / _MIB:,.0f} MiB" if number < 0.9995 * _GIB else f"{number / _GIB:,.1f} GiB"


def _place(known: Memory) -> str:
    return "container" if known.container else "machine"


def place_text(known: Memory) -> str:
    """For example "the machine has 24.0 GB, and 21.3 GB of it are free"; "" where the system does not say."""
    if known.limit is None:
        return ""
    free = "" if known.free is None else f", and {amount(known.free)} of it are free"
    return f"the {_place(known)} has {amount(known.limit)}{free}"


def _of_the_machine(proc: Path) -> tuple[int | None, int | None]:
    found = {}
    for line in _lines(proc / "meminfo"):
        key, _, value = line.partition(":")
        if key in ("MemTotal", "MemAvailable") and (number := _number(value.split()[0])) is not None:
            found[key] = 1024 * number
    if "MemTotal" not in found:
        with suppress(AttributeError, OSError, ValueError):  # not on Windows
            found["MemTotal"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return found.get("MemTotal"), found.get("MemAvailable")


def _limit_and_use(group: Path, version: int) -> tuple[int | None, int | None]:
    """Bytes that a control group may have, and has: what it can give back (of files) does not count as used."""
    names = ("memory.max", "memory.current", "inactive_file") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
    )  # fmt: skip
    limit = _number(_text(group / names[0]))
    if limit is None or limit >= _NO_LIMIT:
        return None, None
    used = _number(_text(group / names[1]))
    given_back = (
        line.split()[1] for line in _lines(group / "memory.stat") if line.startswith(f"{names[2]} ")
    )
    return limit, None if used is None else used - (_number(next(given_back, "")) or 0)


def _quotas(proc: Path) -> Iterator[float]:
    """Cores that each control group above this process pays for."""
    for group, version in _groups(proc, "cpu"):
        if version == 2:
            texts = _text(group / "cpu.max").split()
        else:
            texts = [_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")]
        numbers = [_number(text) for text in texts]
        if len(numbers) == 2 and numbers[0] and numbers[1]:
            yield numbers[0] / numbers[1]


def _groups(proc: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of this process's control group and of those above it, with their version."""
    places = dict(_own_groups(proc, controller))
    for root, mounted, version in _mounts(proc, controller):
        if version not in places:
            continue
        own = places[version]
        inside = os.path.relpath(own, root) if Path(own).is_relative_to(root) else "."
        folder = mounted / inside
        for group in (folder, *folder.parents):
            yield group, version
            if group == mounted:
                break


def _own_groups(proc: Path, controller: str) -> Iterator[tuple[int, str]]:
    """The names of its groups: lines such as "0::/user.slice" of version 2, "4:memory:/docker/ab" of version 1."""
    for line in _lines(proc / "self" / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield 2, path
        elif controller in controllers.split(","):
            yield 1, path


def _mounts(proc: Path, controller: str) -> Iterator[tuple[str, Path, int]]:
    """Where the groups are mounted: (the group at the top, its folder, the version)."""
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            yield fields[3], Path(fields[4]), 2
        elif kinds[0] == "cgroup" and controller in kinds[2].split(","):
            yield fields[3], Path(fields[4]), 1


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _least(values: list[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
