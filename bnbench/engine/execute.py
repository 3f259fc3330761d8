"""Training groups of runs in one process; a run that crashes is recorded, and the rest go on."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace

import torch

from bnbench.base.errors import BnbenchError
from bnbench.base.machine import LESS_MEMORY, why_out_of_memory
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.data.augmentations import augmentation_of
from bnbench.engine.choose import EngineChoice
from bnbench.engine.device import environment
from bnbench.engine.library import Prepares
from bnbench.engine.loop import train_replicas
from bnbench.engine.ranks.group import current
from bnbench.engine.state.keeping import NOTHING_KEPT, Handling, Keeping
from bnbench.study.events import Event, RunEnded, RunPaused, RunStarted
from bnbench.study.layer_names import label_of
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord


class Trainer:
    """Trains groups of replicas, one after the other. The first run of every cell is warmed up.

    debug: let an exception through instead of recording it. keeping: of the runs' states.
    """

    def __init__(
        self,
        library: Prepares,
        device: torch.device,
        debug: bool = False,
        keeping: Keeping = NOTHING_KEPT,
    ) -> None:
        self.library, self.device, self.debug, self.keeping = library, device, debug, keeping
        self._warm: set[tuple[str, str]] = set()

    def train(self, runs: Sequence[RunSpec], choice: EngineChoice) -> Generator[Event]:
        """Train replicas. Where several raise together, each is tried again alone: only the guilty one crashes.

        A run that raises where it went on from a state begins again, so that no state can make it crash.
        """
        yield from self._tried(runs, choice, self.keeping)

    def _tried(self, runs: Sequence[RunSpec], choice: EngineChoice, keeping: Keeping) -> Generator[Event]:
        left, went_on = {run.key: run for run in runs}, False
        with closing(self._events(runs, choice, keeping)) as events:
            while True:
                try:
                    event = next(events)
                except StopIteration:
                    return
                except BaseException as raised:
                    raise_interrupt(raised)
                    error = raised
                    break
                went_on |= isinstance(event, RunStarted) and event.step > 0
                if isinstance(event, RunEnded | RunPaused):
                    del left[event.run.key]
                yield event
        if self.debug:
            raise error
        together = current() is not None  # the other processes would not begin again with it
        if len(runs) == 1 and (together or not went_on):
            yield RunEnded(runs[0], crashed(runs[0], error, self.device))
            return
        if len(runs) == 1:
            keeping = replace(keeping, resume=False)
        for run in left.values():
            yield from self._tried([run], choice, keeping)

    def _events(self, runs: Sequence[RunSpec], choice: EngineChoice, keeping: Keeping) -> Generator[Event]:
        first, cell = runs[0], (runs[0].cell, runs[0].settings.engine)
        data = self.library.prepared(first.settings.for_seed(first.seed))
        cold = cell not in self._warm
        self._warm.add(cell)
        handling = Handling(cold, keeping)
        yield from train_replicas(
            runs, data, augmentation_of(first.settings.augment), self.device, choice, handling
        )


def crashed(run: RunSpec, error: BaseException, device: torch.device) -> RunRecord:
    """The record of a run that raised: the message is the first line of its error, the traceback the rest."""
    message = str(error) if isinstance(error, BnbenchError) else text_of(error)
    if lack := why_out_of_memory(error):
        message = f"{lack}. Fix: {LESS_MEMORY}"
    trace = "" if isinstance(error, BnbenchError) else "".join(traceback.format_exception(error))
    return RunRecord(
        variant=run.variant,
        setting=run.setting,
        seed=run.seed,
        cell=run.cell,
        norm=label_of(run.settings.norm.name),
        outcome="crashed",
        error=f"{message}\n{trace}".strip(),
        environment=environment(device),
    )
