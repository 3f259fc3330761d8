"""How cells are cut into jobs, so that the workers end at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bnbench.engine.cell import Cell

#: A finer cut must bring at least this much, as every cut repeats what a step costs by itself.
WORTH_A_CUT = 0.95


def arrange(cells: Sequence[Cell], workers: int | None, cores: int) -> tuple[list[Cell], int]:
    """The jobs, the longest first, and the number of processes for them.

    workers: so many processes; None for as many as cores, or a few more (at most a quarter) where those would
    wait for the last of an uneven number of jobs: three equal jobs on two cores are done sooner side by side. A run's
    seconds are its own processor's, so they mean the same either way.
    """
    if workers:
        return pack(cells, workers, cores)[0], workers
    jobs, end = pack(cells, cores, cores)
    more = cores + min(len(jobs) % cores, max(1, cores // 4))
    # the wall clock would count the waiting
    if more > cores and not any(cell.choice.own_threads for cell in cells):
        others, sooner = pack(cells, more, cores)
        if sooner < WORTH_A_CUT * end:
            return others, more
    return jobs, cores


def pack(cells: Sequence[Cell], workers: int, cores: int) -> tuple[list[Cell], float]:
    """The jobs, the longest first, and the seconds that they will take together.

    Every cell is cut into as many parts, so that their seconds stay comparable.
    """
    best: list[tuple[float, Cell]] = []
    end = float("inf")
    for parts in range(1, max((len(cell.runs) for cell in cells), default=0) + 1):
        jobs = sorted(
            ((cell.seconds(len(part.runs)), part) for cell in cells for part in _cut(cell, parts)),
            key=lambda job: -job[0],
        )
        if (new := _makespan([seconds for seconds, _ in jobs], workers, cores)) < WORTH_A_CUT * end:
            best, end = jobs, new
    return [job for _, job in best], end


def _cut(cell: Cell, parts: int) -> list[Cell]:
    """Into at most that many parts of nearly the same size."""
    count = len(cell.runs)
    parts = min(parts, count)
    bounds = [count * index // parts for index in range(parts + 1)]
    return [cell.part(cell.runs[start:end]) for start, end in pairwise(bounds)]


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
