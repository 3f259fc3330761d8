"""Where states of runs are kept, and when: what the loop asks for. `bnbench.results.states` keeps them on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bnbench.base.running import SAVE_EVERY
from bnbench.study.plan import RunSpec


class States(Protocol):
    """Keeps states of runs by their step: the last two whole ones of each run. It travels to worker processes."""

    def keep(self, run: RunSpec, step: int, content: bytes) -> None:
        """Keep one more, whole or not at all. Raises ResultsError."""
        ...

    def steps(self, run: RunSpec) -> tuple[int, ...]:
        """The steps of the whole states, the newest first. A damaged one is not there."""
        ...

    def read(self, run: RunSpec, step: int) -> bytes:
        """The content of one of them. Raises ResultsError."""
        ...

    def drop(self, run: RunSpec) -> None:
        """Remove those of a run: it has ended."""
        ...


@dataclass(frozen=True)
class Keeping:
    """When states are kept, and whether runs go on from them.

    states: None keeps nothing. every: seconds between two. resume: whether runs go on from what is there. deadline: of
    `time.monotonic`, at which runs save their state and pause; None for none.
    """

    states: States | None = None
    every: float = SAVE_EVERY
    resume: bool = True
    deadline: float | None = None


#: No states at all.
NOTHING_KEPT = Keeping()


@dataclass(frozen=True)
class Handling:
    """What is done around the steps of a training.

    warm_up: first make a few steps with copies of the models, which load libraries and find their kernels, before the
    clock starts. keeping: of states.
    """

    warm_up: bool = False
    keeping: Keeping = NOTHING_KEPT


#: No warm-up, and no states.
PLAIN = Handling()
