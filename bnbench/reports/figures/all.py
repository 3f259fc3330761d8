"""Every figure of a study: its data, its words and its chart.

A new kind of figure is one function with @kind_of_figure: page, files and `Comparison.figure` have it then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.base.errors import UnknownNameError
from bnbench.base.metrics import METRICS, metric_of
from bnbench.base.words import phrases
from bnbench.reports.figures import (
    charts,
    forest,
    heat_map,
    inside,  # noqa: F401  (it registers its kinds)
    sweep_data,
)
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures.figure import INSIDE, KINDS, Figure, kind_of_figure, specification
from bnbench.reports.figures.in_words import (
    curve_table,
    curve_words,
    difference_table,
    difference_words,
    survival_table,
    survival_words,
    sweep_table,
    sweep_words,
)
from bnbench.reports.figures.names import fold
from bnbench.reports.numbers import target_text, unit_of, with_unit, words

__all__ = ["Figure", "figures", "find_figure", "leading_figures", "specification"]


def figures(summary: Summary) -> list[Figure]:
    """Every figure that has something to show, in reading order; those of the networks' inside last."""
    made = [figure for kind in KINDS for figure in kind(summary)]
    shown = [figure for figure in made if figure.table.rows and figure.drawn]
    return sorted(shown, key=lambda figure: figure.section == INSIDE)


def find_figure(summary: Summary, name: str) -> Figure:
    """The figure of that name. Raises UnknownNameError, which lists the others."""
    made = {figure.name: figure for figure in figures(summary)}
    if name not in made:
        raise UnknownNameError("figure", name, made)
    return made[name]


def leading_figures(summary: Summary, made: Sequence[Figure]) -> list[str]:
    """The names of the two that answer the study's question: how it went, and how far the variants differ.

    made: all of the study's.
    """
    names = [figure.name for figure in made]
    primary = metric_of(summary.primary).name
    courses = ("sweep", f"val_{primary}", "val_accuracy", "val_loss")
    effects = (f"differences_best_{primary}", f"differences_{primary}", "differences_accuracy", "heat_1")
    return [next(filter(names.__contains__, wanted)) for wanted in (courses, effects) if {*wanted} & {*names}]


@kind_of_figure
def _sweeps(summary: Summary) -> Iterator[Figure]:
    """The primary metric over the one key that is swept."""
    keys = sweep_data.swept_keys(summary)
    if len(keys) != 1:
        return
    column, say = summary.primary, phrases(summary.language)
    rows = sweep_data.sweep_mean_rows(summary, column)
    values = sweep_data.swept_values(summary, keys[0])
    yield Figure(
        name="sweep",
        title=say("figure.sweep.title", metric=words(column, summary.language), key=keys[0]),
        caption=say("figure.sweep.caption"),
        alternative=sweep_words(rows, keys[0], column),
        table=sweep_table(rows, column),
        data={"sweep_means": rows, "sweep_runs": sweep_data.sweep_seed_rows(summary, column)},
        draw=partial(
            charts.sweep_chart,
            figure_data.variant_names(summary),
            keys[0],
            charts.Measure(_with_unit(column), unit_of(column) == "%"),
            _swept_scale(values),
            values,
        ),
        drawn=any(row["mean"] is not None for row in rows),
    )


@kind_of_figure
def _heat_maps(summary: Summary) -> Iterator[Figure]:
    """The primary metric over the two keys that are swept, one map a variant."""
    keys = sweep_data.swept_keys(summary)
    if len(keys) != 2:
        return
    column, say = summary.primary, phrases(summary.language)
    rows = sweep_data.sweep_mean_rows(summary, column)
    values = [sweep_data.swept_values(summary, key) for key in keys]
    means = [row["mean"] for row in rows if row["mean"] is not None]
    texts = sweep_data.distinct_texts(means, percent=metric_of(column).percent)
    colour = heat_map.colour_scale(means)
    for index, variant in enumerate(figure_data.variant_names(summary), start=1):
        cells = [
            {**row, "text": texts.get(row["mean"], figure_data.NO_NUMBER)}
            for row in rows
            if row["variant"] == variant
        ]
        yield Figure(
            name=f"heat_{index}",
            title=say(
                "figure.heat.title",
                metric=words(column, summary.language),
                variant=variant,
                one=keys[0],
                other=keys[1],
            ),
            caption=say("figure.heat.caption", mark=figure_data.NO_NUMBER),
            alternative=sweep_words(cells, f"{keys[0]} and {keys[1]}", column),
            table=sweep_table(cells, column),
            data={f"heat_{index}": cells},
            draw=partial(
                heat_map.heat_chart, f"heat_{index}", (keys[0], keys[1]), _with_unit(column), values, colour
            ),
            rows=("key_1", 34),
            labels=tuple(str(value) for value in values[1]),
            columns=(max([*texts.values(), figure_data.NO_NUMBER], key=len),) * len(values[0]),
            headline=f"{variant}: {_with_unit(column)}",
            drawn=any(row["mean"] is not None for row in cells),
        )


@kind_of_figure
def _curves(summary: Summary) -> Iterator[Figure]:
    """Every metric that is measured during training, on the validation and on the training set."""
    seeds, means = figure_data.seed_rows(summary), figure_data.mean_rows(summary)
    at_best = figure_data.at_best_setting(means, summary)
    names, say = figure_data.variant_names(summary), phrases(summary.language)
    drawn, planned = figure_data.drawn_runs(summary), max(len(variant.runs) for variant in summary.variants)
    some = say("figure.curves.some_runs", drawn=drawn, all=planned) if drawn < planned else ""
    for column in sorted(figure_data.curves(summary), key=lambda column: not column.startswith("val_")):
        metric = metric_of(column)
        log = not metric.percent and _spans_decades([row[column] for row in at_best], 3)
        measure = charts.Measure(_with_unit(column), metric.percent)
        yield Figure(
            name=column,
            title=say("figure.curves.title", metric=words(metric.name, summary.language)),
            caption=say("figure.curves.caption") + some + say("figure.best") * bool(summary.best_settings),
            alternative=curve_words(at_best, column),
            table=curve_table(means, metric.name),
            data={"seeds": seeds, "means": means},
            draw=partial(charts.curve_chart, names, column, measure, log=log),
            controls=("split", "axis", "setting", *(() if metric.percent else ("log",))),
            log=log,
            drawn=any(row[column] is not None for row in means),
        )


@kind_of_figure
def _survival(summary: Summary) -> Iterator[Figure]:
    """The number of runs that have reached each target over time."""
    say = phrases(summary.language)
    for index, target in enumerate(summary.targets):
        rows = figure_data.survival_rows(summary, index)
        name = f"target_{index + 1}"
        yield Figure(
            name=name,
            title=say("figure.target.title", target=target_text(target)),
            caption=say("figure.target.caption") + say("figure.best") * bool(summary.best_settings),
            alternative=survival_words(figure_data.at_best_setting(rows, summary)),
            table=survival_table(rows),
            data={name: rows},
            draw=partial(charts.survival_chart, figure_data.variant_names(summary), name),
            controls=("axis", "setting"),
        )


@kind_of_figure
def _differences(summary: Summary) -> Iterator[Figure]:
    """Forest plots: in a sweep first of the best settings, then of the same ones."""
    best = summary.best_comparisons
    same = "same" if best else ""
    metrics = list(reversed(figure_data.metrics(summary)))
    for metric in metrics if best else ():
        yield _forest(summary, f"best_{metric}", best, "best", ("test",))
    for metric in metrics:
        yield _forest(summary, metric, summary.comparisons, same, ("test", "val"))


def _forest(
    summary: Summary, name: str, comparisons: Sequence[Difference], where: str, splits: Sequence[str]
) -> Figure:
    """where: "best" or "same" of a sweep's settings, "" without a sweep."""
    say = phrases(summary.language)
    metric = METRICS[name.removeprefix("best_")]
    rows = figure_data.difference_rows(comparisons, metric.name, splits)
    labels = list(dict.fromkeys(row["label"] for row in rows))
    better = "right" if metric.better == "higher" else "left"
    title = say(
        "figure.differences.title", metric=words(metric.name, summary.language), baseline=summary.baseline
    )
    caption = say(f"figure.differences.{better}")
    data = f"differences_{name}"
    measure = charts.Measure(f"difference in {words(metric.name)}{' (pp)' * metric.percent}", metric.percent)
    return Figure(
        name=data,
        title=say(f"figure.differences.{where}", title=title) if where else title,
        caption=say("figure.differences.splits", caption=caption) if len(splits) > 1 else caption,
        alternative=difference_words(rows),
        table=difference_table(rows),
        data={data: rows},
        draw=partial(forest.forest_chart, figure_data.variant_names(summary), data, measure, splits, labels),
        rows=("label", forest.row_height(labels, splits)),
        labels=tuple(line for label in labels for line in fold(label)),
        drawn=any(row["difference"] is not None for row in rows),
    )


def _swept_scale(values: Sequence[Any]) -> str:
    if not all(isinstance(value, float) for value in values):
        return "ordinal"
    return "log" if min(values) > 0 and _spans_decades(values, 1) else "linear"


def _spans_decades(values: Sequence[Any], decades: int) -> bool:
    positive = [value for value in values if value is not None and value > 0]
    return bool(positive) and math.log10(max(positive) / min(positive)) >= decades


def _with_unit(column: str) -> str:
    return with_unit(column)
