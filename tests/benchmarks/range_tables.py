"""Usable ranges of a sweep through the package: how often their bounds hold the truth, and edges differ falsely."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from verdict_tables import header, per_cent, row

from bnbench.analysis.ranges import Shift, UsableRange, usable_ranges
from bnbench.results import Cell, StudyResults
from bnbench.study.records import RunRecord

#: In half decades from 1e-4 to 10, as the shipped study of learning rates.
GRID = [-4 + step / 2 for step in range(11)]
#: Where runs stop training, on average over seeds: inside of the grid.
LOWER, UPPER = -2.9, -0.1
SHARE = 50


def usable_settings(studies: int, random: np.random.Generator) -> Iterator[str]:
    """Edges that scatter over seeds on a half-decade grid: bounds (nominal 95) and false shifts (at most 5).

    The upper edge of one variant lies 1 decade further out in the last two columns.
    """
    yield from header(
        "edges' sd (decades)", "seeds", "range holds the truth", "shift holds the truth", "any edge falsely shifted",
        "1 decade: holds the truth", "found",
    )  # fmt: skip
    for scatter in (0.1, 0.3, 0.6):
        for n in (3, 5, 10):
            found = [_study(random, n, scatter, 0.0) for _ in range(max(2, studies // SHARE))]
            moved = [_study(random, n, scatter, 1.0)[1] for _ in range(max(2, studies // SHARE))]
            shifts = [shift for _, ours in found for shift in (ours.lower, ours.upper) if shift]
            yield row(
                scatter,
                n,
                per_cent(np.array([_holds(base.low, base.high, UPPER - LOWER) for base, _ in found])),
                per_cent(np.array([_holds(shift.ci_low, shift.ci_high, 0.0) for shift in shifts])),
                per_cent(np.array([_shifted([ours.lower, ours.upper]) for _, ours in found])),
                per_cent(np.array([_holds(m.upper.ci_low, m.upper.ci_high, 1.0) for m in moved if m.upper])),
                per_cent(np.array([_shifted([m.upper]) for m in moved])),
            )


def _study(
    random: np.random.Generator, n: int, scatter: float, further: float
) -> tuple[UsableRange, UsableRange]:
    cells = [
        cell
        for name, more in (("none", 0.0), ("batch", further))
        for cell in _line(random, name, n, scatter, more)
    ]
    base, ours = usable_ranges(StudyResults("s", "none", (), tuple(cells)))
    return base, ours


def _line(random: np.random.Generator, name: str, n: int, scatter: float, more: float) -> Iterator[Cell]:
    edges = [(random.normal(LOWER, scatter), random.normal(UPPER + more, scatter)) for _ in range(n)]
    for power in GRID:
        setting = {"optimizer.lr": 10**power}
        runs = tuple(
            RunRecord(name, setting, s, name, name, "finished" if low < power < high else "not_finite")
            for s, (low, high) in enumerate(edges)
        )
        yield Cell(name, setting, name, tuple(range(n)), runs)


def _holds(low: float | None, high: float | None, truth: float) -> bool:
    return (-math.inf if low is None else low) <= truth <= (math.inf if high is None else high)


def _shifted(shifts: Sequence[Shift | None]) -> bool:
    return any(shift is not None and shift.verdict in ("further", "less far") for shift in shifts)
