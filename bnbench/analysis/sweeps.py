"""Each variant of a sweep at its best setting, chosen on some of the seeds and compared on the others.

A run's luck is in its validation loss and in its test metric alike. Who chooses the best of many settings and
compares on the same seeds favours the variant with more equally good settings, by up to 0.8 standard deviations of a
run (docs/statistics.md). So the first third of the seeds (two at least) chooses, and the others compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bnbench.analysis.difference import Difference
from bnbench.analysis.family import corrected
from bnbench.analysis.paired import compare
from bnbench.analysis.pairs import PHASES, Spread, number
from bnbench.results import Cell, StudyResults
from bnbench.study.labels import Labelled
from bnbench.study.records import RunRecord

#: So many seeds at least choose the setting: one alone often takes a bad one.
MIN_CHOOSING = 2
#: Fewer seeds than this can't be parted into two that choose and three that compare.
MIN_PARTED = 5


@dataclass(frozen=True)
class BestSetting(Labelled):
    """A variant at the setting of the sweep with the lowest mean final val_loss over all its seeds.

    comparisons: with the baseline, both at the setting that the seeds in `choosing` choose, on the seeds in
    `comparing`. Where these are the same, there are too few seeds to part them: there is no verdict.
    """

    val_loss: Spread
    comparisons: tuple[Difference, ...]
    choosing: tuple[int, ...] = ()
    comparing: tuple[int, ...] = ()

    @property
    def parted(self) -> bool:
        """Whether no seed both chose and compared."""
        return not set(self.choosing) & set(self.comparing)


def best_cell(cells: Iterable[Cell], variant: str) -> Cell:
    """The variant's cell with the lowest mean final val_loss; one where a run failed comes after those without."""
    return min((cell for cell in cells if cell.variant == variant), key=_rank)


def part_seeds(seeds: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds that choose a setting and those that compare: the first third and the rest, or all for both."""
    if len(seeds) < MIN_PARTED:
        return tuple(seeds), tuple(seeds)
    count = max(MIN_CHOOSING, len(seeds) // 3)
    return tuple(seeds[:count]), tuple(seeds[count:])


def with_seeds(cell: Cell, seeds: Sequence[int]) -> Cell:
    """The cell as if only these of its seeds were planned."""
    kept = tuple(seed for seed in cell.seeds if seed in seeds)
    return replace(cell, seeds=kept, records=tuple(run for run in cell.records if run.seed in kept))


def at_best(cells: Sequence[Cell], variant: str, choosing: Sequence[int], comparing: Sequence[int]) -> Cell:
    """The variant's runs of the comparing seeds, at the setting that the choosing seeds choose."""
    chosen = best_cell([with_seeds(cell, choosing) for cell in cells], variant)
    best = next(cell for cell in cells if cell.label == chosen.label)
    return with_seeds(best, comparing)


def shared_seeds(cells: Iterable[Cell]) -> tuple[int, ...]:
    """The seeds that every one of the cells plans, in order."""
    first, *others = [cell.seeds for cell in cells]
    return tuple(seed for seed in first if all(seed in other for other in others))


def best_settings(results: StudyResults) -> tuple[BestSetting, ...]:
    """Every variant at its best setting, compared with the baseline at its own."""
    names = dict.fromkeys(cell.variant for cell in results.cells)
    best = {name: best_cell(results.cells, name) for name in names}
    choosing, comparing = part_seeds(shared_seeds(results.cells))
    comparisons: tuple[Difference, ...] = ()
    if results.baseline in names:
        sides = {name: at_best(results.cells, name, choosing, comparing) for name in names}
        comparisons = corrected(
            compare(side, sides[results.baseline], metric, at, results.margin)
            for name, side in sides.items()
            if name != results.baseline
            for at in PHASES
            for metric in results.columns
        )
    if choosing == comparing:
        comparisons = tuple(
            replace(c, verdict="too_few_seeds", uncorrected="too_few_seeds", p_holm=None) for c in comparisons
        )
    elif results.looks:  # these look at the comparisons at the same setting
        comparisons = tuple(replace(c, verdict=None, uncorrected=None, p_holm=None) for c in comparisons)
    return tuple(
        BestSetting(
            name,
            cell.setting,
            _val_loss(cell),
            tuple(c for c in comparisons if c.variant == name),
            choosing,
            comparing,
        )
        for name, cell in best.items()
    )


def _ended(cell: Cell) -> list[RunRecord]:
    """Runs that say whether the variant trains: a crashed one does not."""
    return [run for run in cell.records if run.outcome != "crashed"]


def _val_loss(cell: Cell) -> Spread:
    return Spread.of(number(run, "val_loss", "final") for run in _ended(cell))


def _rank(cell: Cell) -> tuple[bool, float]:
    """Settings where every planned run finished with a finite loss come first; then the lower mean val_loss."""
    losses = _val_loss(cell)
    finished = sum(record.outcome == "finished" for record in cell.records)
    whole = min(finished, losses.n) == len(cell.seeds)
    return not whole, math.inf if losses.mean is None else losses.mean
