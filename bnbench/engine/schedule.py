"""The schedule of a study's runs: stacks that train together, and jobs for worker processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

import torch

from bnbench.engine.cell import Cell
from bnbench.engine.execute import Trainer
from bnbench.engine.library import Library, data_key
from bnbench.engine.state.keeping import NOTHING_KEPT, Keeping
from bnbench.engine.workers.packing import arrange
from bnbench.engine.workers.pool import WorkerLife, run_in_workers
from bnbench.engine.workers.room import packed
from bnbench.engine.workers.server import can_start_workers, count_cores, start_server
from bnbench.study.events import Event, RunEnded, RunStarted
from bnbench.study.plan import RunSpec

if TYPE_CHECKING:
    from bnbench.engine.ranks.lead import Team

#: Seconds of predicted work below which everything is trained in this process: workers take one to start.
WORTH_WORKERS = 4.0


@dataclass(frozen=True)
class Options:
    """How to train. No number of a run depends on it.

    workers: processes of one thread; None for what suits the device and the study. prepare: called in each worker
    first, to load what this process has loaded. debug: train in this process, and let an exception through.
    keeping: of the runs' states. team: the processes that train each run together, None for one. admit: asked before a
    job starts; the runs of it that are to be trained now.
    """

    workers: int | None = None
    prepare: Callable[[], object] | None = None
    debug: bool = False
    keeping: Keeping = NOTHING_KEPT
    team: Team | None = None
    admit: Callable[[Cell], tuple[RunSpec, ...]] = attrgetter("runs")


class Scheduler:
    """Trains the runs of a study as the rehearsal has decided it. cells: by their labels."""

    def __init__(
        self,
        cells: Mapping[str, Cell],
        library: Library,
        device: torch.device,
        options: Options | None = None,
    ) -> None:
        self.cells, self.library, self.device = cells, library, device
        self.options = options or Options()
        self._remark = ""
        self._trainer = Trainer(library, device, self.options.debug, self.options.keeping)

    def train(self, runs: Sequence[RunSpec]) -> Generator[Event]:
        """Train these runs, and add the cautions of its cell to the record of each."""
        with closing(self._events(runs)) as events:
            for event in events:
                cautions = self.cells[event.run.label].cautions
                if cautions and isinstance(event, RunEnded) and event.record.outcome != "crashed":
                    record = replace(event.record, cautions=(*event.record.cautions, *cautions))
                    event = replace(event, record=record)
                yield event

    def _events(self, runs: Sequence[RunSpec]) -> Generator[Event]:
        """Workers of one thread first, then this process with the runs that want all threads."""
        groups = [self.cells[group[0].label].part(tuple(group)) for group in replicas(runs)]
        jobs, processes = self._jobs(groups)
        if jobs:
            of_jobs = [run.settings.for_seed(run.seed) for job in jobs for run in job.runs]
            data = {data_key(settings): self.library.prepared(settings) for settings in of_jobs}
            life = WorkerLife(self.device, self.options.prepare, self.options.keeping)
            ready = packed(jobs, data, processes, self.options.workers is not None, self.device)
            room = replace(ready.room, admit=self.options.admit)
            events = run_in_workers(ready.jobs, data, processes, life, room)
            yield from _remarked(events, ready.remark)
        done = {run.key for job in jobs for run in job.runs}
        left = [group for group in groups if group.runs[0].key not in done]
        for part in self._admitted(_in_turn(left, runs)):
            if (team := self.options.team) is not None:
                yield from team.train(self._trainer, part.runs[0], part.choice)
            else:
                yield from _remarked(self._trainer.train(part.runs, part.choice), self._remark)
                self._remark = ""

    def _admitted(self, jobs: Iterable[Cell]) -> Iterator[Cell]:
        """What may start now of each job, asked for when its turn comes."""
        for job in jobs:
            if runs := self.options.admit(job):
                yield job.part(runs)

    def _jobs(self, groups: Sequence[Cell]) -> tuple[list[Cell], int]:
        if self.options.debug or self.options.team is not None or not can_start_workers():
            return [], 0
        jobs, processes = jobs_for_workers(groups, self.device, self.options.workers)
        try:
            if jobs:
                start_server()
        except OSError as error:  # such as a name of the temporary folder that is too long for a socket
            self._remark = (
                f"no worker process can be started ({error}; the temporary folder is {tempfile.gettempdir()}), so "
                "everything is trained in this process; TMPDIR=/tmp may help"
            )
            return [], 0
        return jobs, processes


def jobs_for_workers(
    groups: Sequence[Cell], device: torch.device, given: int | None = None
) -> tuple[list[Cell], int]:
    """The jobs for workers, and the number of workers; empty where their start costs more than it saves.

    given: so many workers; None for what suits.
    """
    cores = default_workers(device)
    workers = given if os.name == "posix" else None
    if device.type != "cpu" or (workers or cores) < 2:
        return [], 0
    spread = [group for group in groups if group.choice.threads == 1]
    jobs, processes = arrange(spread, workers, cores)
    if len(jobs) < 2 or sum(group.seconds(len(group.runs)) for group in spread) < WORTH_WORKERS:
        return [], 0
    return jobs, processes


def _remarked(events: Generator[Event], remark: str) -> Generator[Event]:
    """The same; the first run that starts says it."""
    with closing(events):
        for event in events:
            if remark and isinstance(event, RunStarted):
                event, remark = replace(event, notes=(*event.notes, remark)), ""
            yield event


def default_workers(device: torch.device) -> int:
    """As many processes as cores on a CPU; on an accelerator, and where processes can't share memory, one."""
    return count_cores() if device.type == "cpu" else 1


def replicas(runs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Runs that differ in their seed alone and have the same data, together; in the order of their first."""
    groups: dict[tuple[str, str, str, str], list[RunSpec]] = {}
    for run in runs:
        data = data_key(run.settings.for_seed(run.seed))
        groups.setdefault((run.label, run.cell, run.settings.engine, data), []).append(run)
    return list(groups.values())


def _in_turn(groups: Sequence[Cell], runs: Sequence[RunSpec]) -> list[Cell]:
    """Stacks whole, other runs one by one: in the plan's order, which takes turns between the variants."""
    place = {run.key: index for index, run in enumerate(runs)}
    parts: list[Cell] = []
    for group in groups:
        stacked = group.choice.engine == "stacked"
        parts += [group] if stacked else [group.part((run,)) for run in group.runs]
    return sorted(parts, key=lambda part: place[part.runs[0].key])
