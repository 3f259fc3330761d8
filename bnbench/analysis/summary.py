"""Everything that the tables show, computed once from a results folder's content."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnbench.analysis.comparison import PHASES, Comparison, Phase, Spread, compare, number
from bnbench.analysis.convergence import TargetSummary, summarize_target
from bnbench.analysis.plain import as_json, rows
from bnbench.config import Target
from bnbench.metrics import SPLIT_METRICS
from bnbench.plan import RunRecord, cell_label
from bnbench.results import Cell, StudyResults

__all__ = ["BestSetting", "Summary", "VariantSummary", "rows", "summarize"]


@dataclass(frozen=True)
class VariantSummary:
    """One variant at one setting of the sweep, over its seeds.

    runs: those that are there; missing: planned runs that are not. num_parameters, steps_per_epoch,
    layers: of the built model, None or empty where no run got as far as building it. spreads: every
    metric, by (at, metric). seconds_per_step: training time alone.
    """

    variant: str
    setting: Mapping[str, Any]
    norm: str
    num_parameters: int | None
    steps_per_epoch: int | None
    layers: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[RunRecord, ...]
    finished: int
    diverged: int
    crashed: int
    missing: int
    spreads: Mapping[tuple[Phase, str], Spread]
    targets: tuple[TargetSummary, ...]
    seconds_per_step: Spread

    @property
    def label(self) -> str:
        """ "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.variant, self.setting)


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
class Summary:
    """A study's result. variants: the study's order. best_settings: empty where nothing is swept.

    comparisons: every variant with the baseline at the same setting, in every metric.
    """

    name: str
    baseline: str
    targets: tuple[Target, ...]
    variants: tuple[VariantSummary, ...]
    comparisons: tuple[Comparison, ...]
    best_settings: tuple[BestSetting, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def runs(self) -> Iterator[RunRecord]:
        """Every run that is there."""
        return (run for variant in self.variants for run in variant.runs)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the runs had to say, each note once."""
        return tuple(dict.fromkeys(note for run in self.runs for note in run.notes))

    def to_json(self) -> dict[str, Any]:
        """Plain values for summary.json: no NaN in it (null instead)."""
        return as_json(self)


def summarize(results: StudyResults) -> Summary:
    """Spreads, differences, convergence and outcomes of a study; nothing that was planned is left out."""
    variants = tuple(_summarize_cell(cell, results.targets) for cell in results.cells)
    swept = len({str(dict(cell.setting)) for cell in results.cells}) > 1
    return Summary(
        name=results.name,
        baseline=results.baseline,
        targets=results.targets,
        variants=variants,
        comparisons=tuple(_same_setting(results)),
        best_settings=_best_settings(results) if swept else (),
        warnings=(*results.warnings, *_warnings(results, variants)),
    )


def _summarize_cell(cell: Cell, targets: Sequence[Target]) -> VariantSummary:
    records = cell.records
    built = next((record for record in records if record.num_parameters), None)
    outcomes = Counter(record.outcome for record in records)
    return VariantSummary(
        variant=cell.variant,
        setting=cell.setting,
        norm=records[0].norm if records else "",
        num_parameters=built.num_parameters if built else None,
        steps_per_epoch=built.steps_per_epoch if built else None,
        layers=built.layers if built else (),
        seeds=cell.seeds,
        runs=records,
        finished=outcomes["finished"],
        diverged=outcomes["diverged"],
        crashed=outcomes["crashed"],
        missing=len(cell.seeds) - len(records),
        spreads={(at, metric): _spread(cell, metric, at) for at in PHASES for metric in SPLIT_METRICS},
        targets=tuple(summarize_target(records, target) for target in targets),
        seconds_per_step=Spread.of(r.train_seconds / r.steps for r in records if r.steps),
    )


def _spread(cell: Cell, metric: str, at: Phase) -> Spread:
    """Over the runs that have numbers at all: a crashed run has none, one that diverged may have NaN."""
    return Spread.of(number(record, metric, at) for record in cell.records if record.outcome != "crashed")


def _compare_all(cell: Cell, baseline: Cell) -> tuple[Comparison, ...]:
    return tuple(compare(cell, baseline, metric, at) for at in PHASES for metric in SPLIT_METRICS)


def _same_setting(results: StudyResults) -> Iterator[Comparison]:
    for cell in results.cells:
        baseline = _baseline_of(cell, results)
        if cell.variant != results.baseline and baseline:
            yield from _compare_all(cell, baseline)


def _baseline_of(cell: Cell, results: StudyResults) -> Cell | None:
    """The baseline's cell at the same setting."""
    candidates = (other for other in results.cells if other.variant == results.baseline)
    return next((other for other in candidates if dict(other.setting) == dict(cell.setting)), None)


def _best_settings(results: StudyResults) -> tuple[BestSetting, ...]:
    names = dict.fromkeys(cell.variant for cell in results.cells)
    best = {name: min((c for c in results.cells if c.variant == name), key=_rank) for name in names}
    baseline = best.get(results.baseline)
    return tuple(
        BestSetting(
            name,
            cell.setting,
            _spread(cell, "val_loss", "final"),
            _compare_all(cell, baseline) if baseline and name != results.baseline else (),
        )
        for name, cell in best.items()
    )


def _rank(cell: Cell) -> tuple[bool, float]:
    """Settings where every planned run finished with a finite loss come first; then the lower mean val_loss."""
    losses = _spread(cell, "val_loss", "final")
    finished = sum(record.outcome == "finished" for record in cell.records)
    whole = min(finished, losses.n) == len(cell.seeds)
    return not whole, math.inf if losses.mean is None else losses.mean


def _warnings(results: StudyResults, variants: Sequence[VariantSummary]) -> Iterator[str]:
    for index, target in enumerate(results.targets):
        runs = [time for variant in variants for time in variant.targets[index].reached]
        if runs and not any(runs):
            yield (
                f"no run reached the target {target.metric} {target.value:g}: it says nothing about speed here. "
                "Choose one that some runs reach, or more epochs."
            )
    for cell in results.cells:
        if not _baseline_of(cell, results):
            yield f"{cell.label}: the baseline {results.baseline} has no runs at this setting; not compared."
    machines = {
        str(sorted(run.environment.items()))
        for variant in variants
        for run in variant.runs
        if run.environment
    }
    if len(machines) > 1:
        yield "the runs come from different machines, devices or versions: their times don't compare."
