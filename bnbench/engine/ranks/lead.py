"""Rank 0: it does what the command does, and has the other processes train each run with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import torch

from bnbench.base.ranks import RankError, World
from bnbench.engine.choose import EngineChoice
from bnbench.engine.execute import Trainer, crashed
from bnbench.engine.ranks.group import connected
from bnbench.engine.ranks.messages import Answer, End, Load, Messages, Train, is_lost, meet
from bnbench.engine.ranks.states import shared
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import RunSpec

#: Seconds that a process has left to say why it failed, once its connections are closed.
LAST_WORDS = 5.0


class Team:
    """The processes of this command, as rank 0 sees them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._messages = Messages(meet(world), world)
        self._number = 0
        self._gone = False

    def load(
        self, prepare: Callable[[], object] | None, data_dir: Path, device: torch.device, debug: bool
    ) -> None:
        """Have the others load what this process has loaded. Raises RankError with what one of them raised."""
        if device.type == "cuda":
            torch.cuda.set_device(self.world.local_rank)
        self._command(Load(prepare, data_dir.absolute(), device.type, debug))
        for rank, answer in self._messages.answers(self._number).items():
            if answer is None or answer.error:
                raise self._fault(rank, answer)

    def train(self, trainer: Trainer, run: RunSpec, choice: EngineChoice) -> Generator[Event]:
        """Train a run on all processes. Raises RankError where one of them is gone."""
        kept = trainer.keeping.states is not None
        self._command(Train(run, choice, trainer.keeping.resume, kept))
        if (fault := self._messages.gather(self._number)) is not None:
            rank, error = fault
            if not error:
                raise self._fault(rank, None)
            yield RunEnded(run, crashed(run, RankError(f"rank {rank}: {error}"), trainer.device))
            return
        end: Event | None = None
        with (
            connected(self.world, trainer.device, self._messages.store_of(self._number)) as group,
            shared(trainer, group),
            closing(trainer.train([run], choice)) as events,
        ):
            for event in events:
                if isinstance(event, RunEnded):
                    end = event
                else:
                    yield event
        if isinstance(end, RunEnded):
            yield self._agreed(end)

    def _agreed(self, event: RunEnded) -> RunEnded:
        """The end of a run, once all have ended it: a crash where another process failed, for its reason."""
        error = event.record.error if event.record.outcome == "crashed" else ""
        lost = is_lost([error]) if error else False
        answers = self._messages.answers(self._number, *([LAST_WORDS] if error else []))
        if error and not lost:
            return event
        for rank, answer in answers.items():
            if answer is not None and answer.error and not answer.lost:
                text = f"rank {rank}: {answer.error}"
                return replace(event, record=replace(event.record, outcome="crashed", error=text))
        silent = [rank for rank, answer in answers.items() if answer is None]
        if silent:
            raise self._fault(silent[0], None)
        return event

    def _fault(self, rank: int, answer: Answer | None) -> RankError:
        if answer is not None:
            return RankError(f"rank {rank}: {answer.error}")
        self._gone = True
        return RankError(
            f"rank {rank} of {self.world.size} is gone: it ended without a word, or no longer answers.",
            "It was killed, perhaps by the system for want of memory, or its machine is unreachable.",
            "the same command: finished runs are kept, and a half-done one goes on from its last state.",
        )

    def _command(self, command: Load | Train | End) -> None:
        self._number += 1
        try:
            self._messages.command(self._number, command)
        except RuntimeError as error:
            raise RankError(
                "the store through which the processes talk is gone.", f"torchrun has ended: {error}"
            ) from error

    def end(self, code: int) -> None:
        """Let the others end with this code. Where this process keeps the store, it waits until they know."""
        with suppress(RankError, RuntimeError):
            self._command(End(code))
            if not self._gone and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
                self._messages.answers(self._number, 10.0)


_team: Team | None = None


def team_of(world: World) -> Team:
    """The processes of this command, which meet when it is first asked for. Raises RankError."""
    global _team
    if _team is None:
        _team = Team(world)
    return _team


def dismiss(world: World, code: int) -> None:
    """Let the other processes of this command end, whether they have trained or not."""
    global _team
    with suppress(RankError):
        team_of(world).end(code)
    _team = None
