"""The states of a run that several processes train: rank 0 keeps them, and the others go on from what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from bnbench.engine.execute import Trainer
from bnbench.engine.ranks.group import Group
from bnbench.engine.ranks.messages import Train
from bnbench.engine.state.keeping import NOTHING_KEPT, Keeping, States
from bnbench.study.plan import RunSpec


class Sent:
    """Rank 0's states: what it reads goes to all processes."""

    def __init__(self, states: States, group: Group) -> None:
        self._states, self._group = states, group

    def keep(self, run: RunSpec, step: int, content: bytes) -> None:
        """As the states of rank 0."""
        self._states.keep(run, step, content)

    def steps(self, run: RunSpec) -> tuple[int, ...]:
        """As the states of rank 0; all processes ask for it together."""
        steps = self._states.steps(run)
        self._group.gathered([torch.tensor(steps, dtype=torch.int64)])
        return steps

    def read(self, run: RunSpec, step: int) -> bytes:
        """As the states of rank 0; all processes ask for it together."""
        content = b""
        try:
            content = self._states.read(run, step)
        finally:
            self._group.gathered([torch.frombuffer(bytearray(content or b" "), dtype=torch.uint8)])
        return content

    def drop(self, run: RunSpec) -> None:
        """As the states of rank 0."""
        self._states.drop(run)


class Received:
    """The same on another process: it keeps nothing, and reads what rank 0 reads."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def keep(self, run: RunSpec, step: int, content: bytes) -> None:
        """Rank 0 keeps it."""

    def steps(self, run: RunSpec) -> tuple[int, ...]:
        """Those that rank 0 has."""
        return tuple(self._of_first(torch.zeros(0, dtype=torch.int64)).tolist())

    def read(self, run: RunSpec, step: int) -> bytes:
        """What rank 0 reads."""
        return bytes(self._of_first(torch.zeros(1, dtype=torch.uint8)).numpy())

    def drop(self, run: RunSpec) -> None:
        """Rank 0 drops it."""

    def _of_first(self, own: torch.Tensor) -> torch.Tensor:
        first = self._group.gathered([own])[0]
        assert first is not None
        return first[0].cpu()


@contextmanager
def shared(trainer: Trainer, group: Group) -> Iterator[None]:
    """Inside, rank 0's trainer shares the states that it reads."""
    before = trainer.keeping
    if before.states is not None:
        trainer.keeping = replace(before, states=Sent(before.states, group))
    try:
        yield
    finally:
        trainer.keeping = before


@contextmanager
def followed(trainer: Trainer, group: Group, command: Train) -> Iterator[None]:
    """Inside, another process's trainer goes on from the states of rank 0."""
    if command.kept:
        trainer.keeping = Keeping(Received(group), every=float("inf"), resume=command.resume)
    try:
        yield
    finally:
        trainer.keeping = NOTHING_KEPT
