"""What rank 0 asks of the other processes, and their answers: by the store of torchrun, beside the numbers.

A process waits as long as it has to (rank 0 prepares data, makes its report). Messages still arrive where the numbers'
connections are gone because a process is.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from bnbench.base.ranks import START, RankError, World
from bnbench.engine.choose import EngineChoice
from bnbench.study.plan import RunSpec

#: Seconds for all processes to meet at the start.
MEETING = 60.0
#: Seconds that rank 0 waits for the answer of a process that gives signs of life.
ANSWER = 600.0
#: Seconds between two signs of life, and without one until a process counts as gone.
_BEAT, SILENCE = 1.0, 60.0
#: Seconds between two looks at the store.
_LOOK = 0.01


@dataclass(frozen=True)
class Load:
    """Prepare for training. prepare: loads what rank 0 has loaded of the user's."""

    prepare: Callable[[], object] | None
    data_dir: Path
    device: str
    debug: bool


@dataclass(frozen=True)
class Train:
    """Train this run with rank 0. every, resume, kept: of its states, which rank 0 keeps."""

    run: RunSpec
    choice: EngineChoice
    resume: bool
    kept: bool


@dataclass(frozen=True)
class End:
    """It is over, with this exit code."""

    code: int


@dataclass(frozen=True)
class Answer:
    """How a process ended a run. error: what it raised, "" where nothing. lost: because another process was gone."""

    error: str = ""
    lost: bool = False


def meet(world: World) -> Store:
    """The store that all processes share. Raises RankError where they do not meet."""
    try:
        store: Store = next(iter(rendezvous("env://", timeout=timedelta(seconds=MEETING))))[0]
    except (RuntimeError, ValueError, OSError) as error:
        text = str(error).strip().partition("\n")[0]
        raise RankError(
            f"rank {world.rank} of {world.size}: the processes did not meet within {MEETING:g} s: {text}",
            "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment say that they would.",
            f"{START}, with a free --master-port; or unset these variables.",
        ) from error
    store.set_timeout(timedelta(seconds=MEETING))
    return store


class Messages:
    """The commands of rank 0, in order, and the answers."""

    def __init__(self, store: Store, world: World) -> None:
        self.store, self.world = PrefixStore("bnbench", store), world

    def command(self, number: int, command: Load | Train | End) -> None:
        """State one more command."""
        self.store.set(f"command/{number}", pickle.dumps(command))  # type: ignore[arg-type]

    def wait(self, number: int, given_up: Callable[[], bool]) -> Load | Train | End | None:
        """The next command, however long it takes; None where `given_up` says so before it is there."""
        while not self.store.check([f"command/{number}"]):
            if given_up():
                return None
            time.sleep(_LOOK)
        command: Load | Train | End = pickle.loads(self.store.get(f"command/{number}"))
        return command

    def answer(self, number: int, answer: Answer) -> None:
        """State how this process ended it."""
        self.store.set(f"answer/{number}/{self.world.rank}", pickle.dumps(answer))  # type: ignore[arg-type]

    def answers(self, number: int, seconds: float = ANSWER) -> dict[int, Answer | None]:
        """Of every other process, by rank; None of those that have said nothing by then."""
        waiting = list(range(1, self.world.size))
        found: dict[int, Answer | None] = dict.fromkeys(waiting)
        end, beats = time.monotonic() + seconds, Beats(self, waiting)
        while waiting:
            if beats.silent(waiting) is not None:
                break
            for rank in [rank for rank in waiting if self.store.check([f"answer/{number}/{rank}"])]:
                found[rank] = self._answer(number, rank)
                waiting.remove(rank)
            if not waiting or time.monotonic() > end:
                break
            time.sleep(_LOOK)
        return found

    def ready(self, number: int, given_up: Callable[[], bool]) -> bool:
        """State that this process can begin, and wait for rank 0's word; whether all begin."""
        self.store.set(f"ready/{number}/{self.world.rank}", "1")
        while not self.store.check([f"go/{number}"]):
            if given_up():
                return False
            time.sleep(_LOOK)
        return bool(int(self.store.get(f"go/{number}")))

    def gather(self, number: int) -> tuple[int, str] | None:
        """Wait until all processes can begin, and let them. Else who can't, and why: "" where it is gone."""
        waiting, fault = set(range(1, self.world.size)), None
        beats = Beats(self, waiting)
        while waiting and fault is None:
            for rank in sorted(waiting):
                if self.store.check([f"ready/{number}/{rank}"]):
                    waiting.discard(rank)
                elif self.store.check([f"answer/{number}/{rank}"]):
                    fault = rank, self._answer(number, rank).error
            if fault is None and (silent := beats.silent(waiting)) is not None:
                fault = silent, ""
            time.sleep(_LOOK if waiting else 0)
        self.store.set(f"go/{number}", str(int(fault is None)))
        return fault

    def _answer(self, number: int, rank: int) -> Answer:
        answer: Answer = pickle.loads(self.store.get(f"answer/{number}/{rank}"))
        return answer

    def beat(self) -> None:
        """Let rank 0 see, from now on, that this process lives: by a thread that ends with it."""

        def go_on() -> None:
            for count in itertools.count():
                try:
                    self.store.set(f"beat/{self.world.rank}", str(count))
                except RuntimeError:  # the store is gone
                    return
                time.sleep(_BEAT)

        threading.Thread(target=go_on, daemon=True).start()

    def store_of(self, number: int) -> Store:
        """A store of names of one run alone."""
        return PrefixStore(f"run/{number}", self.store)


class Beats:
    """The signs of life of other processes, as rank 0 sees them by its own clock."""

    def __init__(self, messages: Messages, ranks: Iterable[int]) -> None:
        self._messages = messages
        self._seen = dict.fromkeys(ranks, ("", time.monotonic()))

    def silent(self, ranks: Iterable[int]) -> int | None:
        """One of these that has given none for too long."""
        now, store = time.monotonic(), self._messages.store
        for rank in ranks:
            key = f"beat/{rank}"
            beat = store.get(key).decode() if store.check([key]) else ""
            if beat != self._seen[rank][0]:
                self._seen[rank] = beat, now
            elif now - self._seen[rank][1] > SILENCE:
                return rank
        return None


#: What the libraries of the connections say where the process at the other end is gone, or silent.
_LOST = (
    "closed by peer",
    "reset by peer",
    "Broken pipe",
    "Timed out",
    "gloo/",
    "NCCL",
    "Connection refused",
    "timeout",
)


def is_lost(texts: Sequence[Any]) -> bool:
    """Whether an error says that another process is gone, rather than what is wrong in this one."""
    return any(sign in str(text) for text in texts for sign in _LOST)
