"""The quantities of expressions (`study/expressions.py`): one number for each seed of a variant.

A number is a pair of bounds. Most numbers are known exactly, and both bounds are the same. A run that never reached
its target is known to need more than its budget, and an edge of a range lies between two values of the sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from bnbench.analysis.convergence import evaluated_every, reached
from bnbench.analysis.pairs import grain_of, number
from bnbench.analysis.ranges import SeedRange, usable_ranges
from bnbench.analysis.sweeps import at_best, best_cell, part_seeds, shared_seeds
from bnbench.base.errors import UnknownNameError
from bnbench.base.indices import INDICES, is_floor
from bnbench.base.metrics import GAPS, metric_of, parted
from bnbench.results import Cell, StudyResults
from bnbench.results.probes import Probed
from bnbench.study.expressions import (
    NOT_METRICS,
    PROBE,
    RANGES,
    STEPS_TO_TARGET,
    TRAINED,
    Expression,
    Quantity,
)
from bnbench.study.records import RunRecord

Bounds = tuple[float, float]
#: share: from 0 to 1. points: a difference of shares. decades: a width on a logarithmic scale. "": the quantity's own.
Unit = Literal["ratio", "share", "points", "decades", "steps", ""]
#: The standard deviation of an error that is uniform over a width of 1.
UNIFORM = 1 / math.sqrt(12)


@dataclass(frozen=True)
class Values:
    """One quantity over the seeds of a variant.

    bounds: the least and the most that it can be, by seed. lost: why an ended run has no number, by seed: "crashed",
    "not_finite", "without_a_number". error: the standard deviation of its rounding, below which no scatter is believed;
    0 where nothing bounds it. log_error: the same of its natural logarithm, None where it follows from `error`.
    censored: seeds with a number that is known on one side alone. cell: where it was measured, None for a whole line of
    the sweep.
    """

    quantity: Quantity
    planned: tuple[int, ...]
    bounds: Mapping[int, Bounds]
    lost: Mapping[int, str] = field(default_factory=dict)
    error: float = 0.0
    log_error: float | None = None
    censored: tuple[int, ...] = ()
    cell: Cell | None = None

    @property
    def exact(self) -> bool:
        """Whether every number is known."""
        return all(low == high for low, high in self.bounds.values())

    @property
    def missing(self) -> int:
        """Planned runs that are not there yet."""
        return len(self.planned) - len(self.bounds) - len(self.lost)


def values_of(results: StudyResults, quantity: Quantity) -> Values:
    """The quantity of every seed. Raises UnknownNameError where the results do not have what it names."""
    if quantity.name in RANGES:
        return _ranges(results, quantity)
    cell = cell_of(results, quantity)
    if quantity.name == TRAINED:
        return _of_runs(quantity, cell, lambda run: float(run.outcome == "finished"))
    if quantity.name == STEPS_TO_TARGET:
        return _steps_to_target(results, quantity, cell)
    if quantity.name == PROBE:
        return _of_runs(quantity, cell, lambda run: _probed(results, cell, run, quantity))
    if quantity.name in INDICES or is_floor(quantity.name):
        return _of_runs(quantity, cell, lambda run: run.inside.get(quantity.name, math.nan))
    metric_of(quantity.name)
    error = (grain_of(cell.records, quantity.name) or 0.0) * UNIFORM
    return _of_runs(quantity, cell, lambda run: number(run, quantity.name, "final"), error)


def cell_of(results: StudyResults, quantity: Quantity) -> Cell:
    """The variant's runs: where it is swept at the setting that the quantity names, else at its best one.

    The best setting is chosen on the first third of the seeds, and has the runs of the others, as everywhere (see
    `sweeps.py`). Raises UnknownNameError.
    """
    own = [cell for cell in results.cells if cell.variant == quantity.variant]
    if not own:
        raise UnknownNameError("variant", quantity.variant, {cell.variant for cell in results.cells})
    cells = [cell for cell in own if quantity.stands_at(cell.setting)]
    if not cells:
        raise UnknownNameError("setting", quantity.text, {cell.label for cell in own})
    if len(cells) == 1:
        return cells[0]
    choosing, comparing = part_seeds(shared_seeds(results.cells))
    if choosing == comparing:  # too few to part: the caller has no verdict from so few
        return best_cell(cells, quantity.variant)
    return at_best(cells, quantity.variant, choosing, comparing)


def _of_runs(
    quantity: Quantity, cell: Cell, value: Callable[[RunRecord], float], error: float = 0.0
) -> Values:
    """value: of a run that did not crash, NaN where it has none."""
    bounds: dict[int, Bounds] = {}
    lost: dict[int, str] = {}
    for run in cell.records:
        found = math.nan if run.outcome == "crashed" else value(run)
        if math.isfinite(found):
            bounds[run.seed] = (found, found)
        else:
            lost[run.seed] = run.outcome if run.outcome in ("crashed", "not_finite") else "without_a_number"
    return Values(quantity, cell.seeds, bounds, lost, error, cell=cell)


def _steps_to_target(results: StudyResults, quantity: Quantity, cell: Cell) -> Values:
    """Steps to the study's first target; a run that never reached it needs more than its budget."""
    target = results.targets[0]
    bounds: dict[int, Bounds] = {}
    censored = []
    for run in cell.records:
        if run.outcome == "crashed":
            continue
        time = reached(run, target)
        bounds[run.seed] = (time.step, time.step) if time else (run.planned_steps, math.inf)
        censored += [] if time else [run.seed]
    lost = {run.seed: run.outcome for run in cell.records if run.outcome == "crashed"}
    error = (evaluated_every(cell.records) or 0) * UNIFORM
    return Values(quantity, cell.seeds, bounds, lost, error, censored=tuple(censored), cell=cell)


def _ranges(results: StudyResults, quantity: Quantity) -> Values:
    """The range of a swept key with which each seed trains, in decades, or one of its edges as a value of the key."""
    (key,) = quantity.arguments
    ranges = [
        found
        for found in usable_ranges(results)
        if (found.variant, found.key) == (quantity.variant, key) and quantity.stands_at(found.others)
    ]
    if len(ranges) != 1:
        known = {f"{found.label} over {found.key}" for found in usable_ranges(results)}
        raise UnknownNameError("range", quantity.text, known)
    line = [
        cell
        for cell in results.cells
        if cell.variant == quantity.variant
        and key in cell.setting
        and all(cell.setting.get(other) == value for other, value in ranges[0].others.items())
    ]
    crashed = {run.seed for cell in line for run in cell.records if run.outcome == "crashed"}
    bounds = {one.seed: _range_bounds(quantity.name, one) for one in ranges[0].seeds}
    step = _largest_step(float(cell.setting[key]) for cell in line)
    # a width has two edges, an edge one; each is known to a step of the sweep
    width = quantity.name == "usable"
    decades = step * UNIFORM * (math.sqrt(2) if width else 1.0)
    return Values(
        quantity,
        shared_seeds(line),
        bounds,
        {seed: "crashed" for seed in crashed if seed not in bounds},
        decades if width else 0.0,
        None if width else decades * math.log(10),
        tuple(seed for seed, (_, most) in bounds.items() if math.isinf(most)),
    )


def _range_bounds(name: str, one: SeedRange) -> Bounds:
    if name == "usable":
        return one.least, one.most
    if one.first is None or one.last is None:  # nothing trains: the edge may be anywhere
        return 0.0, math.inf
    if name == "usable_low":
        return one.fails_below or 0.0, one.first
    return one.last, one.fails_above or math.inf


def _largest_step(values: Iterable[float]) -> float:
    """In decades, between neighbouring values."""
    return max(math.log10(after / before) for before, after in pairwise(sorted(set(values))))


def _probed(results: StudyResults, cell: Cell, run: RunRecord, quantity: Quantity) -> float:
    """One number of what the run's probes measured; NaN where they can't be read, or did not look there."""
    measure, layer, step = quantity.arguments
    try:
        rows = results.probes(cell, run)
    except (OSError, ValueError):
        return math.nan
    return Probed(rows).value(measure, layer, step) if rows else math.nan


def common_seeds(values: Sequence[Values]) -> tuple[int, ...]:
    """The seeds that are planned for every one of them, in order."""
    first, *others = values
    return tuple(seed for seed in first.planned if all(seed in other.planned for other in others))


def unit_of(expression: Expression) -> Unit:
    """The unit of what an expression measures."""
    if expression.ratio:
        return "ratio"
    names = {quantity.name for quantity in expression.quantities}
    if names == {"usable"}:
        return "decades"
    if names == {STEPS_TO_TARGET}:
        return "steps"
    if all(_is_share(name) for name in names):
        single = len(expression.terms) == 1 and not any(parted(name)[0] in GAPS for name in names)
        return "share" if single else "points"
    return ""


def _is_share(name: str) -> bool:
    if name in INDICES:
        return INDICES[name].scale == "points"
    return name == TRAINED or (name not in NOT_METRICS and not is_floor(name) and metric_of(name).percent)
