"""The jobs of a study for an executor: which runs go together, and where."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bnbench.api.luggage import Luggage
from bnbench.api.worker import versions
from bnbench.base.running import Running
from bnbench.engine.cell import Cell
from bnbench.engine.schedule import replicas
from bnbench.engine.workers.packing import pack
from bnbench.executors.drive import Driver
from bnbench.executors.driver import DriverMark
from bnbench.executors.job import Job, RunId, content_key
from bnbench.results import ResultsFolder
from bnbench.study.plan import RunSpec

if TYPE_CHECKING:
    import torch

#: Predicted seconds of a job, of runs that do not stack: less is lost with a worker.
JOB_SECONDS = 30.0


@dataclass(frozen=True)
class Setup:
    """What the jobs of a study have in common.

    cells: as the rehearsal has decided them, by label. packages: of the user's code, by label. deadline: of
    `time.monotonic`. workers: --jobs.
    """

    study: str
    cells: Mapping[str, Cell]
    packages: Mapping[str, Mapping[str, str]]
    luggage: Luggage
    folder: ResultsFolder
    device: torch.device
    data_dir: str
    running: Running = field(default_factory=Running)
    workers: int | None = None
    deadline: float | None = None


def id_of(run: RunSpec) -> RunId:
    """What a job calls it."""
    return RunId(run.label, run.seed, run.cell)


def make_jobs(setup: Setup, runs: Sequence[RunSpec], driver: Driver, mark: DriverMark) -> list[Job]:
    """The jobs, the longest first: all variants of a seed at one place, so that pairs are of one machine."""
    executors = driver.executors
    cells = {run.label: _cell_values(setup, run) for run in runs}
    options = {
        "driver": mark.values(),
        "device": setup.device.type,
        "data_dir": setup.data_dir,
        "save_every": setup.running.save_every,
        "resume": setup.running.resume == "auto",
        "command": ["bnbench", *sys.argv[1:]],
        "luggage": setup.luggage.values,
    }
    seeds = {seed: index for index, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    machines, workers = executors.machines, executors.workers
    if executors.job_seconds:  # of a queue: each job has a machine of its own, and so much to do
        machines = workers = min(workers, math.ceil(_seconds(setup, runs) / executors.job_seconds) or 1)
    blank = Job(
        "",
        setup.study,
        (),
        cells,
        setup.luggage.files,
        str(setup.folder.path.absolute()),
        versions(),
        options,
    )
    jobs: list[Job] = []
    for place in range(min(machines, len(seeds))):
        here = [run for run in runs if seeds[run.seed] % machines == place]
        groups = [setup.cells[group[0].label].part(tuple(group)) for group in replicas(here)]
        share = max(1, workers // machines)
        parts, _ = pack(groups, share, share)
        parts = [piece for part in parts for piece in _pieces(part)]
        for bundle in _bundles(parts, _target(parts, executors.job_seconds, share)):
            slots = max(part.choice.threads for part in bundle) if machines == 1 else 1
            ids = tuple(id_of(run) for part in bundle for run in part.runs)
            seconds = sum(part.seconds(len(part.runs)) for part in bundle)
            key = content_key(setup.study, ids, cells)
            job = replace(blank, key=key, runs=ids, seconds=seconds, place=place, slots=min(slots, workers))
            jobs.append(job)
    return sorted(jobs, key=lambda job: -job.seconds)


def _seconds(setup: Setup, runs: Sequence[RunSpec]) -> float:
    """Predicted, of one worker that trains them all."""
    groups = [setup.cells[group[0].label].part(tuple(group)) for group in replicas(runs)]
    return sum(group.seconds(len(group.runs)) for group in groups)


def _cell_values(setup: Setup, run: RunSpec) -> dict[str, Any]:
    cell = setup.cells[run.label]
    return {
        "variant": run.variant,
        "setting": dict(run.setting),
        "settings": run.settings.model_dump(mode="json"),
        "provenance": run.provenance,
        "choice": asdict(cell.choice),
        "cautions": list(cell.cautions),
        "packages": dict(setup.packages.get(run.label, {})),
    }


def _pieces(part: Cell) -> Iterator[Cell]:
    """Runs that do not stack, in jobs of about `JOB_SECONDS`: cutting them costs nothing."""
    count = len(part.runs)
    if part.choice.engine == "stacked":
        yield part
        return
    size = max(1, round(JOB_SECONDS / max(part.seconds(1), 1e-9)))
    for start in range(0, count, size):
        yield part.part(part.runs[start : start + size])


def _target(parts: Sequence[Cell], job_seconds: float, workers: int) -> float:
    """To how many seconds jobs are packed: no more than lets every worker have one."""
    whole = sum(part.seconds(len(part.runs)) for part in parts)
    return min(job_seconds, whole / workers)


def _bundles(parts: Sequence[Cell], target: float) -> Iterator[list[Cell]]:
    """Parts that go into one job, in their order, until they take so many seconds."""
    bundle: list[Cell] = []
    seconds = 0.0
    for part in parts:
        bundle.append(part)
        seconds += part.seconds(len(part.runs))
        if seconds >= target:
            yield bundle
            bundle, seconds = [], 0.0
    if bundle:
        yield bundle
