"""Every figure of a study: its data, its words and its chart; and the same figures as files for a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.base.metrics import METRICS, metric_of
from bnbench.reports.figures import charts
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures.data import Row
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
from bnbench.reports.numbers import heading, target_text, words
from bnbench.reports.tables.all import Table

if TYPE_CHECKING:
    from bnbench.reports.figures.charts import Layers


@dataclass(frozen=True)
class Figure:
    """One figure: rows of data by name, words for those who don't see it, and how it is drawn.

    name: of its file. alternative: what it shows, in a sentence or two. controls: what a reader can change
    in the page: "split", "axis", "setting", "log"; log: whether a loss is on a log scale at first. draw: the
    Altair chart, without its data. row_height: of a chart that has a row for each value of a column: (column,
    pixels). drawn: whether there is a number to draw.
    """

    name: str
    title: str
    caption: str
    alternative: str
    table: Table
    data: Mapping[str, Sequence[Row]]
    draw: Callable[[], Layers]
    controls: tuple[str, ...] = ()
    log: bool = False
    row_height: tuple[str, int] | None = None
    drawn: bool = True


def figures(summary: Summary) -> list[Figure]:
    """Every figure that has something to show, in reading order."""
    found = [*_sweeps(summary), *_curves(summary), *_survival(summary), *_differences(summary)]
    return [figure for figure in found if figure.table.rows and figure.drawn]


def _curves(summary: Summary) -> Iterator[Figure]:
    seeds, means = figure_data.seed_rows(summary), figure_data.mean_rows(summary)
    shown = figure_data.at_best_setting(means, summary)
    names = figure_data.variant_names(summary)
    for column in sorted(figure_data.curves(summary), key=lambda column: not column.startswith("val_")):
        title = _with_unit(column)
        log = not metric_of(column).percent and _spans_decades([row[column] for row in shown], 3)
        yield Figure(
            name=column,
            title=f"{heading(metric_of(column).name)} over training",
            caption=_CURVE_CAPTION,
            alternative=curve_words(shown, column),
            table=curve_table(means, metric_of(column).name),
            data={"seeds": seeds, "means": means},
            draw=partial(charts.curve_chart, names, column, title, log=log),
            controls=("split", "axis", "setting", *(() if metric_of(column).percent else ("log",))),
            log=log,
            drawn=any(row[column] is not None for row in means),
        )


_CURVE_CAPTION = (
    "Bold: mean over the seeds with a finite number at that step. Band: ± one standard deviation (n-1). "
    "Faint: every seed; a line ends where its run stopped being finite. Seconds: training alone."
)


def _survival(summary: Summary) -> Iterator[Figure]:
    for index, target in enumerate(summary.targets):
        rows = figure_data.survival_rows(summary, index)
        name = f"target_{index + 1}"
        yield Figure(
            name=name,
            title=f"Runs that have reached {target_text(target)}",
            caption="Share of all runs that ended, also of those that did not finish: they never reach it.",
            alternative=survival_words(figure_data.at_best_setting(rows, summary)),
            table=survival_table(rows),
            data={name: rows},
            draw=partial(charts.survival_chart, figure_data.variant_names(summary), name),
            controls=("axis", "setting"),
        )


def _differences(summary: Summary) -> Iterator[Figure]:
    best = [comparison for found in summary.best_settings for comparison in found.comparisons]
    same = " at the same setting" if best else ""
    for metric in reversed(figure_data.metrics(summary)) if best else ():
        yield _difference_figure(summary, f"best_{metric}", best, ", each at its best setting", ("test",))
    for metric in reversed(figure_data.metrics(summary)):
        yield _difference_figure(summary, metric, summary.comparisons, same, ("test", "val"))


def _difference_figure(
    summary: Summary, name: str, comparisons: Sequence[Difference], where: str, splits: Sequence[str]
) -> Figure:
    metric = name.removeprefix("best_")
    rows = figure_data.difference_rows(comparisons, metric, splits)
    better = "right" if METRICS[metric].better == "higher" else "left"
    unit = " (pp)" if METRICS[metric].percent else ""
    title = f"Difference in {words(metric)} from {summary.baseline}{where}"
    data = f"differences_{name}"
    return Figure(
        name=data,
        title=title,
        caption=f"Mean paired difference after the last step and its 95% interval; {better} of 0 is better."
        + (" Filled: test set. Hollow: validation set." if len(splits) > 1 else ""),
        alternative=difference_words(rows),
        table=difference_table(rows),
        data={data: rows},
        draw=partial(
            charts.difference_chart,
            figure_data.variant_names(summary),
            data,
            f"difference in {words(metric)}{unit}",
            splits,
        ),
        row_height=("label", 58 if len(splits) > 1 else 48),
        drawn=any(row["difference"] is not None for row in rows),
    )


def _sweeps(summary: Summary) -> Iterator[Figure]:
    keys = figure_data.swept_keys(summary)
    column = summary.primary
    rows = figure_data.sweep_mean_rows(summary, column)
    values = [figure_data.swept_values(summary, key) for key in keys]
    if len(keys) == 1:
        yield Figure(
            name="sweep",
            title=f"Final {words(column)} over {keys[0]}",
            caption="Line: mean over the runs with a finite number; bar: ± one standard deviation (n-1). "
            "Circles: runs; crosses: runs that did not finish.",
            alternative=sweep_words(rows, keys[0], column),
            table=sweep_table(rows, column),
            data={"sweep_means": rows, "sweep_runs": figure_data.sweep_seed_rows(summary, column)},
            draw=partial(
                charts.sweep_chart,
                figure_data.variant_names(summary),
                keys[0],
                _swept_scale(values[0]),
                _with_unit(column),
                values[0],
            ),
            drawn=any(row["mean"] is not None for row in rows),
        )
    if len(keys) == 2:
        yield from _heat_maps(summary, (keys[0], keys[1]), rows, values)


def _heat_maps(
    summary: Summary, keys: tuple[str, str], rows: list[Row], values: list[list[Any]]
) -> Iterator[Figure]:
    known = [row["mean"] for row in rows if row["mean"] is not None] or [0.0]
    texts = figure_data.distinct_texts(known, percent=metric_of(summary.primary).percent)
    title = _with_unit(summary.primary)
    for index, variant in enumerate(figure_data.variant_names(summary), start=1):
        cells = [{**row, "text": texts.get(row["mean"], "")} for row in rows if row["variant"] == variant]
        data = f"heat_{index}"
        yield Figure(
            name=data,
            title=f"Final {words(summary.primary)} of {variant} over {keys[0]} and {keys[1]}",
            caption="Mean over the runs with a finite number, brighter is higher, the same for every "
            "variant. Empty: no run has a number.",
            alternative=sweep_words(cells, f"{keys[0]} and {keys[1]}", summary.primary),
            table=sweep_table(cells, summary.primary),
            data={data: cells},
            draw=partial(charts.heat_chart, data, keys, title, values, _domain(known)),
            row_height=("key_1", 34),
            drawn=any(row["mean"] is not None for row in cells),
        )


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """Of a scale of colours; around the value where all are equal."""
    low, high = min(values), max(values)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _swept_scale(values: Sequence[Any]) -> str:
    if not all(isinstance(value, float) for value in values):
        return "ordinal"
    return "log" if min(values) > 0 and _spans_decades(values, 1) else "linear"


def _spans_decades(values: Sequence[Any], decades: int) -> bool:
    positive = [value for value in values if value is not None and value > 0]
    return bool(positive) and math.log10(max(positive) / min(positive)) >= decades


def _with_unit(column: str) -> str:
    return f"{words(column)}{' (%)' if metric_of(column).percent else ''}"


def specification(figure: Figure, *, zoom: bool = False) -> dict[str, Any]:
    """The chart as Vega-Lite, without its data. zoom: where the figure has an axis that can be moved along."""
    chart = figure.draw()
    plain: dict[str, Any] = (
        charts.zoomable(chart) if zoom and "axis" in figure.controls else chart
    ).to_dict()
    return plain
