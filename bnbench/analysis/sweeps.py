"""What a sweep says besides: each variant's best setting, the settings in which it trains, and the interaction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bnbench.analysis.comparison import Comparison, Spread, compare, corrected
from bnbench.analysis.intervals import paired_interval
from bnbench.analysis.pairs import PHASES, number
from bnbench.plan import cell_label
from bnbench.results import Cell, StudyResults


@dataclass(frozen=True)
class BestSetting:
    """A variant at the setting of the sweep with the lowest mean final val_loss.

    comparisons: with the baseline at its own best setting. The choice is made on validation
    data, so only the test metrics are free of it.
    """

    variant: str
    setting: Mapping[str, Any]
    val_loss: Spread
    comparisons: tuple[Comparison, ...]

    @property
    def label(self) -> str:
        """ "batch @ optimizer.lr=0.1"."""
        return cell_label(self.variant, self.setting)


@dataclass(frozen=True)
class UsableRange:
    """The values of one swept key with which a variant trains, all else equal (`others`).

    decades: for each seed, log10 of the largest over the smallest value of its longest unbroken
    range; one value, or none, is 0. mean, ci_low, ci_high: over the n seeds whose runs are all
    there, with the 95 % t interval. lowest, highest: of the values with which every such seed
    trained, None where there is none. open_ended: a range goes to the edge of the sweep, so that it
    is at least this. difference, ...: of the paired decades, variant minus baseline.
    """

    variant: str
    key: str
    others: Mapping[str, Any]
    decades: tuple[tuple[int, float], ...]
    n_planned: int
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    lowest: float | None
    highest: float | None
    open_ended: bool
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None

    @property
    def n(self) -> int:
        """Seeds whose runs are all there."""
        return len(self.decades)

    @property
    def label(self) -> str:
        """ "batch", or "batch @ batch_size=32" where more than one key is swept."""
        return cell_label(self.variant, self.others)


@dataclass(frozen=True)
class Interaction:
    """How the difference from the baseline moves along a swept key: from its first value to this one.

    comparison: variant minus baseline at this value. change: the difference here minus that at the
    first value, paired by seed, with its 95 % t interval over n seeds; None at the first value.
    """

    key: str
    value: Any
    others: Mapping[str, Any]
    comparison: Comparison
    change: float | None
    change_low: float | None
    change_high: float | None
    n: int


def best_cell(cells: Iterable[Cell], variant: str) -> Cell:
    """The variant's cell with the lowest mean final val_loss; one where a run failed comes after those without."""
    return min((cell for cell in cells if cell.variant == variant), key=_rank)


def best_settings(results: StudyResults) -> tuple[BestSetting, ...]:
    """Every variant at its best setting, compared with the baseline at its own."""
    names = dict.fromkeys(cell.variant for cell in results.cells)
    best = {name: best_cell(results.cells, name) for name in names}
    baseline = best.get(results.baseline)
    found = corrected(
        compare(cell, baseline, metric, at, results.margin)
        for name, cell in best.items()
        if baseline and name != results.baseline
        for at in PHASES
        for metric in results.columns
    )
    return tuple(
        BestSetting(name, cell.setting, _val_loss(cell), tuple(c for c in found if c.variant == name))
        for name, cell in best.items()
    )


def usable_ranges(results: StudyResults) -> tuple[UsableRange, ...]:
    """For every swept key whose values are positive numbers."""
    found = []
    for key in _swept_keys(results.cells):
        ranges = [
            _usable_range(cells, key) for cells in _lines(results.cells, key) if _is_numeric(cells, key)
        ]
        baselines = {str(r.others): r for r in ranges if r.variant == results.baseline}
        found += [_against(found_range, baselines.get(str(found_range.others))) for found_range in ranges]
    return tuple(found)


def interactions(results: StudyResults, comparisons: Sequence[Comparison]) -> Iterator[Interaction]:
    """Along every swept key, for the final primary metric. comparisons: those at the same setting."""
    shown = [c for c in comparisons if c.at == "final" and c.metric == results.primary]
    for key in _swept_keys(results.cells):
        for cells in _lines(results.cells, key):
            line = [c for cell in cells for c in shown if c.label == cell.label]
            for found in line:
                yield _interaction(key, line[0], found)


def _interaction(key: str, first: Comparison, found: Comparison) -> Interaction:
    before = dict(first.values)
    changes = [value - before[seed] for seed, value in found.values if seed in before]
    low, high = paired_interval(changes) if found is not first else (None, None)
    return Interaction(
        key=key,
        value=found.setting[key],
        others=_without(found.setting, key),
        comparison=found,
        change=statistics.fmean(changes) if changes and found is not first else None,
        change_low=low,
        change_high=high,
        n=len(changes),
    )


def _usable_range(cells: Sequence[Cell], key: str) -> UsableRange:
    cells = sorted(cells, key=lambda cell: float(cell.setting[key]))
    values = [float(cell.setting[key]) for cell in cells]
    trained = [{run.seed: run.outcome == "finished" for run in _ended(cell)} for cell in cells]
    seeds = [seed for seed in cells[0].seeds if all(seed in outcome for outcome in trained)]
    blocks = {seed: longest_block([outcome[seed] for outcome in trained]) for seed in seeds}
    decades = {seed: math.log10(values[b[1]] / values[b[0]]) if b else 0.0 for seed, b in blocks.items()}
    common = longest_block([bool(seeds) and all(outcome[seed] for seed in seeds) for outcome in trained])
    low, high = paired_interval(list(decades.values()))
    return UsableRange(
        variant=cells[0].variant,
        key=key,
        others=_without(cells[0].setting, key),
        decades=tuple(decades.items()),
        n_planned=len(cells[0].seeds),
        mean=statistics.fmean(decades.values()) if decades else None,
        ci_low=low,
        ci_high=high,
        lowest=values[common[0]] if common else None,
        highest=values[common[1]] if common else None,
        open_ended=any(b and (b[0] == 0 or b[1] == len(values) - 1) for b in blocks.values()),
    )


def longest_block(flags: Sequence[bool]) -> tuple[int, int] | None:
    """First and last index of the longest run of true ones (the first of equals), None where there is none."""
    best, start = None, None
    for index, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = index
        elif not flag and start is not None:
            if best is None or index - 1 - start > best[1] - best[0]:
                best = (start, index - 1)
            start = None
    return best


def _against(ours: UsableRange, baseline: UsableRange | None) -> UsableRange:
    if baseline is None or baseline is ours:
        return ours
    theirs = dict(baseline.decades)
    differences = [value - theirs[seed] for seed, value in ours.decades if seed in theirs]
    low, high = paired_interval(differences)
    mean = statistics.fmean(differences) if differences else None
    return replace(ours, difference=mean, difference_low=low, difference_high=high)


def _ended(cell: Cell) -> list[Any]:
    """Runs that say whether the variant trains: a crashed one does not."""
    return [run for run in cell.records if run.outcome != "crashed"]


def _swept_keys(cells: Sequence[Cell]) -> list[str]:
    """Keys of the settings with more than one value."""
    keys = dict.fromkeys(key for cell in cells for key in cell.setting)
    return [key for key in keys if len({str(cell.setting.get(key)) for cell in cells}) > 1]


def _lines(cells: Sequence[Cell], key: str) -> Iterator[list[Cell]]:
    """The cells of one variant that differ in nothing but that key, two or more, in the study's order."""
    lines: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if key in cell.setting:
            lines.setdefault((cell.variant, str(_without(cell.setting, key))), []).append(cell)
    return (line for line in lines.values() if len(line) > 1)


def _is_numeric(cells: Sequence[Cell], key: str) -> bool:
    values = [cell.setting[key] for cell in cells]
    return all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in values)


def _without(setting: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in setting.items() if name != key}


def _val_loss(cell: Cell) -> Spread:
    return Spread.of(number(run, "val_loss", "final") for run in _ended(cell))


def _rank(cell: Cell) -> tuple[bool, float]:
    """Settings where every planned run finished with a finite loss come first; then the lower mean val_loss."""
    losses = _val_loss(cell)
    finished = sum(record.outcome == "finished" for record in cell.records)
    whole = min(finished, losses.n) == len(cell.seeds)
    return not whole, math.inf if losses.mean is None else losses.mean
