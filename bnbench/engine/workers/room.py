"""Which jobs train side by side: as many as memory has room for. No number of a run depends on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import torch

from bnbench.base.machine import Memory, amount, memory, place_text
from bnbench.data import Sizes
from bnbench.data.prepared import Prepared
from bnbench.engine.cell import Cell
from bnbench.engine.footprint import Footprint, data_bytes, job_bytes, measured_footprint, together
from bnbench.engine.library import data_key
from bnbench.study import Settings
from bnbench.study.plan import RunSpec

#: The part of the free memory that jobs may fill: estimates are not exact, and other programs want some.
USABLE = 0.9


@dataclass
class Room:
    """Bytes that workers may have together, and what each job needs. free: None where anything is let in.

    admit: asked before a job starts; the runs of it that are to be trained now.
    """

    free: float | None = None
    needs: Mapping[tuple[str, int], int] = field(default_factory=dict)
    admit: Callable[[Cell], tuple[RunSpec, ...]] = attrgetter("runs")

    def need(self, job: Cell) -> int:
        """Bytes of a worker that trains it; 0 where that is not known."""
        return self.needs.get(job.runs[0].key, 0)

    def admitted(self, waiting: list[Cell], held: Sequence[int], own: int = 0) -> tuple[Cell, int] | None:
        """The next job that may start now, and the bytes that it needs; None where there is none."""
        while job := self.take(waiting, held, own):
            if runs := self.admit(job):
                return job.part(runs), self.need(job)
        return None

    def take(self, waiting: list[Cell], held: Sequence[int], own: int = 0) -> Cell | None:
        """Take the first job that fits beside what others hold; any job where nobody holds anything.

        own: bytes that the worker holds already which would train it: it gives none back.
        """
        for index, job in enumerate(waiting):
            if self.free is None or not held or together([*held, max(own, self.need(job))]) <= self.free:
                return waiting.pop(index)
        return None


@dataclass(frozen=True)
class Packed:
    """Jobs in their order, the room for them, and a remark on what memory has changed; "" where it has room."""

    jobs: list[Cell]
    room: Room = field(default_factory=Room)
    remark: str = ""


def packed(
    jobs: Sequence[Cell], data: Mapping[str, Prepared], workers: int, given: bool, device: torch.device
) -> Packed:
    """The jobs with the memory of each, stacks that do not fit cut into smaller ones.

    data: by `data_key`; workers get a copy of it, which they share. given: the user has named the number of workers,
    who gets them, with a warning where they may not fit.
    """
    now, estimates = memory(), Estimates(device)
    free = None if now.free is None else max(0.0, USABLE * now.free - data_bytes(data.values()))

    def need(job: Cell) -> int:
        return estimates.job(job, data[data_key(_settings(job.runs[0]))].sizes)

    whole = sorted(map(need, jobs), reverse=True)
    wanted = together(whole[:workers])
    if free is None or wanted <= free:
        return Packed(list(jobs), Room(free, _by_run(jobs, need)))
    if given:
        return Packed(list(jobs), Room(None, _by_run(jobs, need)), _warning(workers, wanted, now))
    cut = [part for job in jobs for part in _fitting(job, free, need)]
    return Packed(
        cut, Room(free, _by_run(cut, need)), _remark(workers, wanted, max(map(need, cut)) > free, now)
    )


def _settings(run: RunSpec) -> Settings:
    return run.settings.for_seed(run.seed)


def _by_run(jobs: Sequence[Cell], need: Callable[[Cell], int]) -> dict[tuple[str, int], int]:
    return {job.runs[0].key: need(job) for job in jobs}


def _fitting(job: Cell, free: float, need: Callable[[Cell], int]) -> list[Cell]:
    """The job, or halves of it, until each fits or is a single run."""
    if need(job) <= free or len(job.runs) == 1 or job.choice.engine != "stacked":
        return [job]
    half = len(job.runs) // 2
    parts = job.part(job.runs[:half]), job.part(job.runs[half:])
    return [small for part in parts for small in _fitting(part, free, need)]


def _warning(workers: int, wanted: float, now: Memory) -> str:
    return (
        f"--jobs {workers}: the workers need about {amount(wanted)} together, and {place_text(now)}. The system may "
        "end some of them; fewer --jobs, or a smaller batch_size, need less"
    )


def _remark(workers: int, wanted: float, too_large: bool, now: Memory) -> str:
    alone = (
        "; one of them is thought not to fit even alone, so the system may end it: a smaller batch_size needs less"
        if too_large
        else ""
    )
    return (
        f"{workers} workers would need about {amount(wanted)} together, and {place_text(now)}: fewer train at a "
        f"time, in smaller stacks where one would not fit{alone}"
    )


class Estimates:
    """The memory of jobs; cells whose steps do the same work are measured once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: dict[str, Footprint] = {}

    def job(self, job: Cell, sizes: Sizes) -> int:
        """Bytes of a process that trains it, beside the data, whose sizes these are."""
        key = f"{work_of(job.runs[0].settings)} {sizes}"
        if key not in self._known:
            self._known[key] = measured_footprint(job, sizes, self._device)
        return job_bytes(job, self._known[key], sizes)


def work_of(settings: Settings) -> str:
    """Settings of one text take steps of the same cost: numbers such as rates and momenta cost nothing."""
    kinds = {key: getattr(settings, key) for key in ("model", "norm", "optimizer", "loss")}
    facts = {key: (choice.name, _without_rates(choice.options)) for key, choice in kinds.items()}
    modes = [getattr(settings, key) for key in ("batch_size", "precision", "engine", "framework", "train")]
    clipped = settings.clip_norm is None, settings.clip.name
    return repr((facts, modes, settings.augment, clipped, settings.probe))


def _without_rates(options: Mapping[str, object]) -> dict[str, object]:
    """Of a float, whether it is zero is all that matters: no momentum, no decay."""
    return {key: bool(value) if isinstance(value, float) else value for key, value in options.items()}
