"""The numbers behind every figure, as rows of plain values. Nothing here draws.

An accuracy is in percent, a difference of accuracies in percentage points. A number that is not
finite is None, and a line breaks there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.convergence import TargetSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.pairs import Phase, Spread
from bnbench.base.metrics import METRICS, columns_of, metric_of, value_of
from bnbench.base.terminal import one_line
from bnbench.reports.numbers import MAX_DECIMALS, NOTHING, difference_text, verdict_text
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
        for cell, steps in [(_cell(variant), _drawn_steps(variant))]
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
        {**_cell(variant), **_axes(evaluations), **_means(evaluations, columns)}
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


def _cell(variant: VariantSummary) -> Row:
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
        means |= {column: in_unit(column, spread.mean), **_band(column, column, spread)}
    return means


def _band(name: str, column: str, spread: Spread) -> Row:
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
            **_cell(variant),
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


def swept_keys(summary: Summary) -> list[str]:
    """The keys that take more than one value over the study's settings, but those that follow others."""
    return list(summary.swept_keys)


def swept_values(summary: Summary, key: str) -> list[Any]:
    """The values of a swept key: numbers in order, anything else as text in the study's order."""
    given = (variant.setting[key] for variant in summary.variants if key in variant.setting)
    values = list(dict.fromkeys(map(_axis_value, given)))
    return sorted(values) if all(isinstance(value, float) for value in values) else [str(v) for v in values]


def _axis_value(value: Any) -> float | str:
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else name_of(str(value))
    )


def _swept(summary: Summary) -> Iterator[tuple[VariantSummary, Row]]:
    """Every cell with key_0, key_1, ...: the values of the swept keys, in their order.

    A variant without a key is the same at each of its values: it stands at all of them.
    """
    keys = swept_keys(summary)
    values = [[_axis_value(value) for value in swept_values(summary, key)] for key in keys]
    for variant in baseline_first(summary):
        here = [
            [_axis_value(variant.setting[key])] if key in variant.setting else everywhere
            for key, everywhere in zip(keys, values, strict=True)
        ]
        for at in itertools.product(*here):
            yield variant, {f"key_{i}": value for i, value in enumerate(at)}


def sweep_mean_rows(summary: Summary, column: str, at: Phase = "final") -> list[Row]:
    """One row a cell: the swept values by their key, the mean over seeds and its standard deviation."""
    return [
        {
            **_cell(variant),
            **swept,
            "mean": in_unit(column, spread.mean),
            **_band("mean", column, spread),
            "failed": len(variant.runs) - variant.outcomes["finished"],
        }
        for variant, swept in _swept(summary)
        for spread in [variant.spreads[at, column]]
    ]


def distinct_texts(values: Sequence[float], *, percent: bool) -> dict[float, str]:
    """Value -> text, with as many decimals as it takes that values which differ read differently."""
    values = list(dict.fromkeys(values))
    decimals = range(1 if percent else 3, MAX_DECIMALS + 1) if max(map(abs, values), default=0) < 1e5 else ()
    forms = [*(f".{count}f" for count in decimals), *(f".{digits}g" for digits in range(3, 7))]
    for form in forms:
        texts = {value: f"{value:{form}}" for value in values}
        if len(set(texts.values())) == len(texts) and all(float(texts[v]) for v in texts if v):
            return texts
    return {value: f"{value:.6g}" for value in values}


def sweep_seed_rows(summary: Summary, column: str) -> list[Row]:
    """One row a run that has a number at all: the swept values, the final number and the outcome."""
    return [
        {
            **_cell(variant),
            **swept,
            "seed": run.seed,
            "outcome": run.outcome,
            "value": value,
        }
        for variant, swept in _swept(summary)
        for run in variant.runs
        for value in [in_unit(column, value_of(run.final, column))]
        if value is not None
    ]
