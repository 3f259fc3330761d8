"""A cell in numbers: one variant at one setting of the sweep, over its seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bnbench.analysis.contents import VariantSummary
from bnbench.analysis.convergence import summarize_target
from bnbench.analysis.pairs import PHASES, Phase, Spread, number
from bnbench.analysis.times import why_not_comparable
from bnbench.results import Cell
from bnbench.study import Target
from bnbench.study.evaluation import is_line
from bnbench.study.records import MISSING, OUTCOMES, RunRecord


def summarize_cell(
    cell: Cell, targets: Sequence[Target], reference: Sequence[RunRecord], columns: Sequence[str]
) -> VariantSummary:
    """Its outcomes, spreads and times. reference: runs of the baseline, whose seconds these are held against."""
    records = cell.records
    built = next((record for record in records if record.num_parameters), None)
    line = is_line(cell.variant)
    outcomes = Counter(record.outcome for record in records)
    return VariantSummary(
        variant=cell.variant,
        setting=cell.setting,
        norm=records[0].norm if records else "",
        num_parameters=built.num_parameters if built else None,
        trained_parameters=built.trained_parameters if built else None,
        steps_per_epoch=built.steps_per_epoch if built else None,
        layers=built.layers if built else (),
        seeds=cell.seeds,
        runs=records,
        outcomes={
            **{outcome: outcomes[outcome] for outcome in OUTCOMES},
            MISSING: len(cell.seeds) - len(records),
        },
        spreads={(at, metric): spread_of(cell, metric, at) for at in PHASES for metric in columns},
        targets=tuple(summarize_target(records, target) for target in targets),
        seconds_per_step=Spread.of(r.train_seconds / r.steps for r in records if r.steps and not line),
        seconds_refused="nothing was trained for it" if line else why_not_comparable(records, reference),
    )


def spread_of(cell: Cell, metric: str, at: Phase) -> Spread:
    """Over the runs that have numbers at all: a crashed run has none, one that is not finite may have NaN."""
    return Spread.of(number(record, metric, at) for record in cell.records if record.outcome != "crashed")
