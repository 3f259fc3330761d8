"""Spreading runs over the cores: what goes together, what it will cost, and whether processes are worth their start."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from bnbench.base.user_code import raise_interrupt
from bnbench.data.batches import steps_per_epoch
from bnbench.engine.choose import Choice, choose
from bnbench.engine.execute import Library, data_key, execute_group, replicas
from bnbench.engine.workers.pool import run_in_workers
from bnbench.engine.workers.server import count_cores
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import RunSpec

#: Seconds of predicted work below which everything is trained in this process: workers take one to start.
WORTH_WORKERS = 4.0
#: The cost of a step on one thread: seconds of a step by itself, and for each parameter and sample, and each
#: parameter of each replica, fitted to stacks of 2 and 5 networks of 784-64-10 on a 2.6 GHz core. Only their
#: ratios matter, and only for packing.
STEP_SECONDS = {"stacked": 250e-6, "sequential": 350e-6, "compiled": 350e-6}
SECONDS_A_PRODUCT, SECONDS_A_PARAMETER = 6e-11, 1.1e-9
#: A finer cut must bring at least this much, as every cut repeats what a step costs by itself.
WORTH_A_CUT = 0.95


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone, and what a stack of n of them will take."""

    runs: tuple[RunSpec, ...]
    choice: Choice
    steps: int

    def seconds(self, count: int) -> float:
        """Predicted for that many of the runs, together where they stack."""
        settings, parameters = self.runs[0].settings, self.choice.num_parameters
        each = parameters * (settings.batch_size * SECONDS_A_PRODUCT + SECONDS_A_PARAMETER)
        step = STEP_SECONDS[self.choice.engine]
        if self.choice.engine != "stacked":
            return self.steps * count * (step + each)
        return self.steps * (step + max(count, 2) * each)  # a stack of one has a double


def default_workers(device: torch.device) -> int:
    """As many processes as cores on a CPU; on an accelerator, and where processes can't share memory, one."""
    return count_cores() if device.type == "cpu" else 1


def run_all(
    runs: Sequence[RunSpec],
    library: Library,
    device: torch.device,
    *,
    workers: int | None = None,
    debug: bool = False,
    prepare: Callable[[], object] | None = None,
    cautions: Mapping[str, Sequence[str]] | None = None,
) -> Generator[Event]:
    """Train all runs, and write into the record of each what limits its cell's answer (by its label).

    The other arguments: see `_train`.
    """
    events = _train(runs, library, device, workers=workers, debug=debug, prepare=prepare)
    with closing(events):
        for event in events:
            found = (cautions or {}).get(event.run.label)
            if found and isinstance(event, RunEnded) and event.record.outcome != "crashed":
                record = replace(event.record, cautions=(*event.record.cautions, *found))
                event = replace(event, record=record)
            yield event


def _train(
    runs: Sequence[RunSpec],
    library: Library,
    device: torch.device,
    *,
    workers: int | None,
    debug: bool,
    prepare: Callable[[], object] | None,
) -> Generator[Event]:
    """Train all runs; what `workers` processes of one thread can do is theirs, the rest follows in this one.

    workers: None for what suits the device and the study. prepare: called in each worker first, to load
    what this process has loaded. debug: everything in this process, and an exception comes through. The
    numbers of a run are the same whatever the number of workers.
    """
    cores = default_workers(device)
    workers = None if os.name != "posix" else workers
    groups = replicas(runs)
    cells = [_cell(group, library, device) for group in groups]
    here = debug or (workers or cores) < 2 or device.type != "cpu"
    spread = [cell for cell in cells if cell and cell.choice.threads == 1 and not here]
    jobs, processes = arrange(spread, workers, cores)
    if len(jobs) < 2 or sum(cell.seconds(len(cell.runs)) for cell in spread) < WORTH_WORKERS:
        jobs = []
    if jobs:
        wanted = [run.settings.for_seed(run.seed) for job in jobs for run in job]
        data = {data_key(settings): library.prepared(settings) for settings in wanted}
        yield from run_in_workers(jobs, data, device, processes, prepare)
    done = {id(run) for job in jobs for run in job}
    stacked = {id(cell.runs[0]) for cell in cells if cell and cell.choice.engine == "stacked"}
    left = [group for group in groups if id(group[0]) not in done]
    for part in _in_turn(left, stacked, runs):
        yield from execute_group(part, library, device, debug)


def _in_turn(
    groups: Sequence[Sequence[RunSpec]], stacked: Collection[int], runs: Sequence[RunSpec]
) -> list[Sequence[RunSpec]]:
    """Stacks whole, other runs one by one: in the plan's order, which takes turns between the variants.

    stacked: the ids of the first runs of the groups that train as one.
    """
    place = {id(run): index for index, run in enumerate(runs)}
    parts: list[Sequence[RunSpec]] = []
    for group in groups:
        parts += [group] if id(group[0]) in stacked else [[run] for run in group]
    return sorted(parts, key=lambda part: place[id(part[0])])


def _cell(runs: Sequence[RunSpec], library: Library, device: torch.device) -> Cell | None:
    """None where even that goes wrong: the runs will say why when they crash."""
    settings = runs[0].settings
    try:
        data = library.prepared(settings)  # the split of another seed has the same size
        choice = choose(settings, data.input_shape, data.num_classes, device)
    except BaseException as error:
        raise_interrupt(error)
        return None
    steps = (
        steps_per_epoch(len(data.train_labels), settings.batch_size, settings.last_batch) * settings.epochs
    )
    return Cell(tuple(runs), choice, steps)


def arrange(cells: Sequence[Cell], workers: int | None, cores: int) -> tuple[list[tuple[RunSpec, ...]], int]:
    """The jobs, the longest first, and how many processes take them.

    workers: so many processes; None for as many as cores, or a few more (at most a quarter) where those would
    wait for the last of an uneven number of jobs: three equal jobs on two cores are done sooner side by side. A run's
    seconds are its own processor's, so they mean the same either way.
    """
    if workers:
        return pack(cells, workers, cores)[0], workers
    jobs, end = pack(cells, cores, cores)
    more = cores + min(len(jobs) % cores, max(1, cores // 4))
    # Keras's seconds are the wall clock's, which would count the waiting
    if more > cores and all(cell.runs[0].settings.framework == "torch" for cell in cells):
        others, sooner = pack(cells, more, cores)
        if sooner < WORTH_A_CUT * end:
            return others, more
    return jobs, cores


def pack(cells: Sequence[Cell], workers: int, cores: int) -> tuple[list[tuple[RunSpec, ...]], float]:
    """The jobs, the longest first, and the seconds that they will take together.

    Every cell is cut into as many parts, so that their seconds stay comparable.
    """
    best: list[tuple[float, tuple[RunSpec, ...]]] = []
    end = float("inf")
    for parts in range(1, max((len(cell.runs) for cell in cells), default=0) + 1):
        jobs = sorted(
            ((cell.seconds(len(part)), part) for cell in cells for part in _cut(cell.runs, parts)),
            key=lambda job: -job[0],
        )
        if (new := _makespan([seconds for seconds, _ in jobs], workers, cores)) < WORTH_A_CUT * end:
            best, end = jobs, new
    return [runs for _, runs in best], end


def _cut(runs: Sequence[RunSpec], parts: int) -> list[tuple[RunSpec, ...]]:
    """Into at most that many parts of nearly the same size."""
    parts = min(parts, len(runs))
    bounds = [len(runs) * index // parts for index in range(parts + 1)]
    return [tuple(runs[start:end]) for start, end in pairwise(bounds)]


def _makespan(seconds: Sequence[float], workers: int, cores: int) -> float:
    """When the last worker ends, if each takes the next job as soon as it is free, and they share the cores."""
    waiting, busy, now = list(seconds), list[float](), 0.0
    while waiting or busy:
        free = workers - len(busy)
        busy, waiting = busy + waiting[:free], waiting[free:]
        first = min(busy)
        now += first * max(1.0, len(busy) / cores)
        busy = [left - first for left in busy if left > first]
    return now
