"""The other ranks: they train with rank 0 what it trains, and print and write nothing."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from types import FrameType

import torch

from bnbench.base.errors import BnbenchError
from bnbench.base.ranks import RankError, World
from bnbench.base.stopping import ask_to_stop, stop_asked
from bnbench.base.user_code import guarded, text_of
from bnbench.engine.device import pick_device
from bnbench.engine.execute import Trainer
from bnbench.engine.library import Library
from bnbench.engine.process import training_process
from bnbench.engine.ranks.group import connected
from bnbench.engine.ranks.messages import Answer, End, Load, Messages, Train, is_lost, meet
from bnbench.engine.ranks.states import followed
from bnbench.study.events import RunEnded

#: Seconds that a process which was asked to end waits for rank 0's last command.
GRACE = 15.0
_EXIT_TERMINATED = 128 + signal.SIGTERM


def follow(world: World) -> int:
    """Do what rank 0 asks for until it ends. Returns its exit code. Raises RankError where rank 0 never came."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 hears of it, and lets the others end
    signal.signal(signal.SIGTERM, _terminated)
    messages = Messages(meet(world), world)
    messages.beat()
    follower = _Follower(messages, world)
    with training_process(for_good=True):
        try:
            return follower.run()
        except RuntimeError:  # the store is gone, and with it rank 0 or torchrun
            return 1


_since: list[float] = []


def _terminated(number: int, frame: FrameType | None) -> None:
    _since.append(time.monotonic())
    ask_to_stop("SIGTERM")


def _gave_up() -> bool:
    return bool(stop_asked() and _since and time.monotonic() - _since[0] > GRACE)


class _Follower:
    """One of the other processes."""

    def __init__(self, messages: Messages, world: World) -> None:
        self._messages, self._world = messages, world
        self._trainer: Trainer | None = None

    def run(self) -> int:
        """Command after command."""
        number = 0
        while True:
            number += 1
            command = self._messages.wait(number, _gave_up)
            if command is None:
                return _EXIT_TERMINATED
            if isinstance(command, End):
                self._messages.answer(number, Answer())
                return command.code
            try:
                with guarded():
                    answer = (
                        self._load(command) if isinstance(command, Load) else self._train(command, number)
                    )
            except BaseException as error:
                text = str(error) if isinstance(error, BnbenchError) else text_of(error)
                answer = Answer(text or "an error", is_lost([text]))
            self._messages.answer(number, answer)

    def _load(self, command: Load) -> Answer:
        if command.device == "cuda":
            torch.cuda.set_device(self._world.local_rank)
        device = pick_device(command.device)  # type: ignore[arg-type]
        if command.prepare is not None:
            command.prepare()
        self._trainer = Trainer(Library(command.data_dir, device), device)
        return Answer()

    def _train(self, command: Train, number: int) -> Answer:
        trainer, error = self._trainer, ""
        if trainer is None:
            raise RankError("asked to train before it was asked to load.")
        self._check_data(trainer, command)
        if not self._messages.ready(number, _gave_up):
            return Answer()
        with (
            connected(self._world, trainer.device, self._messages.store_of(number)) as group,
            followed(trainer, group, command),
            closing(trainer.train([command.run], command.choice)) as events,
        ):
            for event in events:
                if isinstance(event, RunEnded) and event.record.outcome == "crashed":
                    error = event.record.error or "an error"
        return Answer(error, is_lost([error]) if error else False)

    def _check_data(self, trainer: Trainer, command: Train) -> None:
        """Raises RankError where this process has read other data than rank 0."""
        facts, library = command.run.provenance, trainer.library
        if not isinstance(facts, dict) or "data" not in facts or not isinstance(library, Library):
            return
        found = library.dataset(command.run.settings).fingerprint
        if found != facts["data"]:
            raise RankError(
                f"its data set {command.run.settings.dataset.name} has another content than rank 0's.",
                "Each process reads the data on its own machine.",
                "--data-dir: a folder that all machines share.",
            )
