"""Runs trained without a study around them: what the rehearsal decides is decided here, for each group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from bnbench.data import Sizes
from bnbench.data.prepared import Prepared
from bnbench.engine.backends.base import backend_of
from bnbench.engine.build import build_model
from bnbench.engine.choose import EngineChoice
from bnbench.engine.execute import Trainer
from bnbench.engine.library import Library
from bnbench.engine.rehearsal.rehearse import rehearse
from bnbench.engine.schedule import Options, Scheduler, replicas
from bnbench.study import Settings
from bnbench.study.events import Event
from bnbench.study.plan import RunSpec

CPU = torch.device("cpu")


class OneSet:
    """A library of one data set, whatever the settings."""

    def __init__(self, data: Prepared) -> None:
        self.data = data

    def prepared(self, settings: Settings) -> Prepared:
        return self.data


def chosen_for(settings: Settings, sizes: Sizes, device: torch.device = CPU) -> EngineChoice:
    """The engine of a network that is built for the question."""
    model = build_model(settings, sizes, 0)
    return backend_of(settings).choose(model, settings, sizes, device)


def execute(
    runs: Iterable[RunSpec], library: Any, device: torch.device = CPU, debug: bool = False
) -> Iterator[Event]:
    """Train the runs in this process, the seeds of a cell together."""
    trainer = Trainer(library, device, debug)
    for group in replicas(runs):
        settings = group[0].settings
        data = library.prepared(settings.for_seed(group[0].seed))
        yield from trainer.train(group, chosen_for(settings, data.sizes, device))


def scheduled(runs: Sequence[RunSpec], library: Library, **options: Any) -> Iterator[Event]:
    """Train the runs as a command does: rehearsed, and then perhaps in workers. options: of the scheduler."""
    cells = rehearse(runs, library, CPU).cells
    return Scheduler(cells, library, CPU, Options(**options)).train(runs)
