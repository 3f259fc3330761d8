"""The processes that train one run together: their number and this one's place, as torchrun states them. Free of torch.

torchrun sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment of each process. Rank 0 does what a
command does, and has the others train with it; they print and write nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from bnbench.base.errors import BnbenchError, UsageError

#: What torchrun sets.
NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: How one run on several processes is started.
START = "torchrun --nproc-per-node 2 -m bnbench compare STUDY"


@dataclass(frozen=True)
class World:
    """rank: of this process, from 0. size: the number of processes. local_rank: its place on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def several(self) -> bool:
        """Whether several processes train one run together."""
        return self.size > 1


def world_of(environment: Mapping[str, str] = os.environ) -> World:
    """As the environment states it; without any of torchrun's variables, and with WORLD_SIZE=1, one process.

    Raises UsageError where some of them are missing or are no such numbers.
    """
    given = {name: environment[name] for name in NAMES if environment.get(name)}
    if "RANK" not in given and "WORLD_SIZE" not in given:
        return World()
    if given.get("WORLD_SIZE") == "1" and given.get("RANK", "0") == "0":
        return World()
    missing = [name for name in NAMES if name not in given]
    if missing:
        stated = " and ".join(f"{name}={given[name]}" for name in ("RANK", "WORLD_SIZE") if name in given)
        raise UsageError(
            f"{stated}: set in the environment, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not.",
            "These variables say that several processes train one run together; torchrun sets all of them.",
            f"{START}; for one process: unset {' '.join(name for name in NAMES if name in given)}",
        )
    rank, size, port = (_whole(name, given[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if size < 1 or rank >= size:
        raise UsageError(
            f"RANK={rank}, WORLD_SIZE={size}: the ranks of {size} processes are 0 to {size - 1}.", fix=START
        )
    if not 0 < port < 65536:
        raise UsageError(f"MASTER_PORT={port}: a port is a number from 1 to 65535.", fix=START)
    return World(rank, size, _whole("LOCAL_RANK", environment.get("LOCAL_RANK") or str(rank)))


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{name}={text}: not a whole number.", "torchrun sets it.", START)
    return int(text)


class RankError(BnbenchError):
    """A process of those that train one run together is gone, or does not answer."""


@dataclass(frozen=True)
class Rows:
    """The samples of a batch that this process trains: those from `start` to `stop` of `total`."""

    start: int
    stop: int
    total: int


#: What layers with draws of their own look at; None where a process has the whole batch.
_rows: Rows | None = None


def set_rows(rows: Rows | None) -> None:
    """State which samples of the batch this process has, until the next call."""
    global _rows
    _rows = rows


def whole_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that such values (N, ...) have for the whole batch: what is drawn for them is drawn in it."""
    if _rows is None or not shape:
        return shape
    return (_each(shape[0]) * _rows.total, *shape[1:])


def own_part(length: int) -> slice:
    """Of values of the whole batch those that are this process's. length: of what it has itself."""
    if _rows is None:
        return slice(None)
    each = _each(length)
    return slice(_rows.start * each, _rows.stop * each)


def _each(length: int) -> int:
    """Values of a sample along the first axis: more than one where positions lie beside each other in it."""
    assert _rows is not None
    samples = _rows.stop - _rows.start
    return length // samples if samples else 1
