"""The numbers behind every figure, as rows of plain values. Nothing here draws.

An accuracy is in percent, a difference of accuracies in percentage points. A number that is not
finite is None, and a line breaks there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.convergence import TargetSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.pairs import Spread
from bnbench.base.metrics import METRICS, columns_of, metric_of, value_of
from bnbench.base.terminal import one_line
from bnbench.reports.numbers import NOTHING, difference_text, verdict_text
from bnbench.reports.tables.table import baseline_first
from bnbench.study.records import HistoryRow

Row = dict[str, Any]

#: In a cell of a heat map that no run has a number for.
NO_NUMBER = NOTHING

#: The possible horizontal axes of a curve: columns of the curves' rows.
AXES = ("step", "epoch", "second")
#: Evaluations of one run that are drawn; a longer history keeps every second, third, ... and its last.
MAX_POINTS = 150
#: Runs whose curves are drawn, of all variants together; of each variant at settings at least LEAST_RUNS.
MAX_RUNS, LEAST_RUNS = 1_000, 3


def metrics(summary: Summary) -> list[str]:
    """The metrics with a figure of their own: all except per-class recall, which has a table."""
    return [name for name in summary.metrics if name in METRICS]


def curves(summary: Summary) -> list[str]:
    """Columns of a history that are drawn: the test set is measured once, at the end."""
    return [column for column in columns_of(metrics(summary)) if not column.startswith("test_")]


def name_of(text: str) -> str:
    """A name as one line. One that every JavaScript object has gets a space after it: Vega would look that up."""
    name = one_line(text)
    return f"{name} " if name in _OF_JAVASCRIPT else name


_OF_JAVASCRIPT = frozenset(
    "constructor hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString valueOf __proto__ "
    "__defineGetter__ __defineSetter__ __lookupGetter__ __lookupSetter__".split()
)


def setting_text(setting: Mapping[str, Any]) -> str:
    """For example "optimizer.lr=0.1", and "" where nothing is swept."""
    return one_line(", ".join(f"{key}={value}" for key, value in setting.items()))


def variant_names(summary: Summary) -> list[str]:
    """Every variant once, the baseline first: the order of colours and legends."""
    return list(dict.fromkeys(name_of(variant.variant) for variant in baseline_first(summary)))


def best_settings(summary: Summary) -> dict[str, str]:
    """Variant -> the text of its best setting; empty where nothing is swept."""
    return {name_of(best.variant): setting_text(best.setting) for best in summary.best_settings}


def at_best_setting(rows: Iterable[Row], summary: Summary) -> list[Row]:
    """The rows of every variant at its best setting; all of them where nothing is swept."""
    best = best_settings(summary)
    return [row for row in rows if not best or row["setting"] == best.get(row["variant"])]


def in_unit(column: str, value: float | None) -> float | None:
    """The value to six digits in its display unit, percent for an accuracy; None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value * (100 if metric_of(column).percent else 1):.6g}")


def seed_rows(summary: Summary) -> list[Row]:
    """The curves of runs, see `drawn_runs`: one row an evaluation, one column a metric."""
    columns, count = curves(summary), drawn_runs(summary)
    return [
        {
            **cell,
            "seed": run.seed,
            "outcome": run.outcome,
            **_axes([row]),
            **{column: in_unit(column, row.metrics.get(column)) for column in columns},
        }
        for variant in baseline_first(summary)
        for cell, steps in [(cell_of(variant), _drawn_steps(variant))]
        for run in variant.runs[:count]
        for row in run.history
        if row.step in steps
    ]


def drawn_runs(summary: Summary) -> int:
    """Of each variant at each setting, the number of its runs that are drawn one by one: its first."""
    return max(LEAST_RUNS, MAX_RUNS // len(summary.variants))


def mean_rows(summary: Summary) -> list[Row]:
    """The mean curve of every variant: at each step, over the seeds with a finite number there.

    "val_loss", "val_loss_low", "val_loss_high": mean, and mean -/+ one standard deviation (n-1; None for
    one seed); "val_loss_n": over how many seeds. Seconds are the mean over the seeds.
    """
    columns = curves(summary)
    return [
        {**cell_of(variant), **_axes(evaluations), **_means(evaluations, columns)}
        for variant in baseline_first(summary)
        for evaluations in _drawn_evaluations(variant)
    ]


def _drawn_evaluations(variant: VariantSummary) -> Iterator[list[HistoryRow]]:
    """Of each drawn step, the evaluations of all runs."""
    by_step: dict[int, list[HistoryRow]] = {step: [] for step in sorted(_drawn_steps(variant))}
    for run in variant.runs:
        for row in run.history:
            if row.step in by_step:
                by_step[row.step].append(row)
    yield from by_step.values()


def cell_of(variant: VariantSummary) -> Row:
    """The columns that name a cell of the study."""
    return {"variant": name_of(variant.variant), "setting": setting_text(variant.setting)}


def _drawn_steps(variant: VariantSummary) -> set[int]:
    steps = sorted({row.step for run in variant.runs for row in run.history})
    every = max(1, math.ceil(len(steps) / MAX_POINTS))
    return {*steps[::every], *steps[-1:]}


def _axes(evaluations: Sequence[HistoryRow]) -> Row:
    seconds = sum(row.train_seconds for row in evaluations) / len(evaluations)
    return {
        "step": evaluations[0].step,
        "epoch": float(f"{evaluations[0].epoch:.6g}"),
        "second": float(f"{seconds:.6g}"),
    }


def _means(evaluations: Sequence[HistoryRow], columns: Sequence[str]) -> Row:
    means: Row = {}
    for column in columns:
        spread = Spread.of(value_of(row.metrics, column) for row in evaluations)
        means |= {column: in_unit(column, spread.mean), **band(column, column, spread)}
    return means


def band(name: str, column: str, spread: Spread) -> Row:
    """The ends of a spread, as columns NAME_low and so on."""
    known = spread.mean is not None and spread.std is not None
    low, high = (spread.mean - spread.std, spread.mean + spread.std) if known else (None, None)  # type: ignore[operator]
    return {
        f"{name}_low": in_unit(column, low),
        f"{name}_high": in_unit(column, high),
        f"{name}_n": spread.n,
    }


def survival_rows(summary: Summary, index: int) -> list[Row]:
    """The number of runs that have reached a target: one staircase per variant, by step, epoch and second.

    share: percent of all runs that ended, also of those that did not finish: they never reach it.
    """
    return [
        {
            **cell_of(variant),
            "by": axis,
            "x": x,
            "k": k,
            "n": target.n,
            "share": 100 * k / target.n,
        }
        for variant in baseline_first(summary)
        for target in [variant.targets[index]]
        if target.n
        for axis in AXES
        for x, k in _stairs(variant, target, axis)
    ]


def _stairs(variant: VariantSummary, target: TargetSummary, axis: str) -> Iterator[tuple[float, int]]:
    field = {"step": "step", "epoch": "epoch", "second": "seconds"}[axis]
    times = sorted(getattr(time, field) for time in target.reached if time)
    ends = {
        "step": target.budget,
        "epoch": target.budget / variant.steps_per_epoch if variant.steps_per_epoch else 0,
        "second": max((run.train_seconds for run in variant.runs), default=0),
    }
    yield 0, 0
    for k, time in enumerate(times, start=1):
        yield float(f"{time:.6g}"), k
    yield float(f"{max([ends[axis], *times]):.6g}"), len(times)


def difference_rows(
    comparisons: Iterable[Difference], metric: str, splits: Sequence[str] = ("test", "val")
) -> list[Row]:
    """Final differences from the baseline with their 95 % interval, one row a variant and split."""
    return [
        {
            "label": name_of(difference.label),
            "variant": name_of(difference.variant),
            "setting": setting_text(difference.setting),
            "split": split,
            "difference": in_unit(difference.metric, difference.difference),
            "low": in_unit(difference.metric, difference.ci_low),
            "high": in_unit(difference.metric, difference.ci_high),
            "n": difference.n,
            "verdict": verdict_text(difference.verdict),
            "text": difference_text(difference),
        }
        for difference in comparisons
        for split in splits
        if difference.at == "final" and difference.metric == f"{split}_{metric}"
    ]
