"""Altair charts: which column is drawn how. The data stay outside, by name; see `data.py`.

Colours are those of Okabe and Ito, which differ for every kind of colour vision, less the ones that
are too faint on white or black; the baseline is grey. A dash pattern says the same without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnbench.study.records import OUTCOMES

if TYPE_CHECKING:
    import altair as alt

    Layers = alt.LayerChart | alt.FacetChart  # as Altair declares what alt.layer gives

BASELINE_COLOUR = "#7a7a7a"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_CROSS = "M-0.8,-0.8L0.8,0.8M-0.8,0.8L0.8,-0.8"
DASHES = ([1, 0], [14, 2], [5, 5], [2, 4], [9, 3, 2, 3], [3, 2], [1, 3])  # gaps grow: what lies under shows


def colours(variants: Sequence[str]) -> list[str]:
    """One a variant; the first is the baseline. They come round again after six others."""
    return [BASELINE_COLOUR, *(COLOURS[i % len(COLOURS)] for i in range(len(variants) - 1))][: len(variants)]


def dashes(variants: Sequence[str]) -> list[list[int]]:
    """One a variant, so that lines that lie on each other can both be seen."""
    return [DASHES[i % len(DASHES)] for i in range(len(variants))]


def curve_chart(
    variants: Sequence[str], column: str, title: str, axis: str = "step", *, log: bool = False
) -> Layers:
    """Mean curves with their band, and every seed faint behind them."""
    import altair as alt

    x = alt.X(axis, type="quantitative", title=axis, scale=alt.Scale(nice=False, zero=False))
    y = alt.Y(
        column,
        type="quantitative",
        title=title,
        scale=alt.Scale(type="log") if log else alt.Scale(zero=False),
    )
    low = alt.Y(f"{column}_low", type="quantitative", title=title)
    seeds, means = alt.Chart(alt.NamedData("seeds")), alt.Chart(alt.NamedData("means"))
    tooltip = [
        alt.Tooltip("variant", type="nominal"),
        alt.Tooltip(axis, type="quantitative", title=axis),
        _number(column, title),
        _number(f"{column}_low", "mean - std"),
        _number(f"{column}_high", "mean + std"),
        alt.Tooltip(f"{column}_n", type="quantitative", title="seeds"),
    ]
    # one seed has no band: its ends are then the line's own, or the axis would have no end
    ends = {f"{column}_{end}": _or_else(f"{column}_{end}", column) for end in ("low", "high")}
    band = means.transform_calculate(**ends).mark_area(opacity=0.15)
    return alt.layer(
        band.encode(x, low, alt.Y2(f"{column}_high"), _colour(variants)),
        seeds.mark_line(opacity=0.3, strokeWidth=0.8).encode(
            x, y, _colour(variants), detail=["setting:N", "seed:N"]
        ),
        means.mark_line(strokeWidth=2).encode(x, y, _colour(variants), _dash(variants)),
        means.mark_point(opacity=0, size=150).encode(x, y, tooltip=tooltip),
    )


def survival_chart(variants: Sequence[str], data: str, axis: str = "step") -> Layers:
    """Staircases: the share of runs that have reached the target."""
    import altair as alt

    x = alt.X("x:Q", title=axis, scale=alt.Scale(nice=False))
    y = alt.Y("share:Q", title="runs that reached it (%)", scale=alt.Scale(domain=[0, 105], nice=False)).axis(
        values=[0, 25, 50, 75, 100]
    )
    tooltip = [
        alt.Tooltip("variant:N"),
        alt.Tooltip("x:Q", title=axis),
        alt.Tooltip("k:Q", title="runs there"),
        alt.Tooltip("n:Q", title="of"),
    ]
    base = alt.Chart(alt.NamedData(data))
    return alt.layer(
        base.mark_line(interpolate="step-after", strokeWidth=2).encode(
            x, y, _colour(variants), _dash(variants)
        ),
        base.mark_point(opacity=0, size=150).encode(x, y, tooltip=tooltip),
    )


#: Pixels at the left of a forest plot for "test" and "val", which no interval and no line may cross.
_LETTERS_WIDTH = 34


def difference_chart(variants: Sequence[str], data: str, title: str, splits: Sequence[str]) -> Layers:
    """A forest plot: every variant's name, and under it its differences with their intervals."""
    import altair as alt

    colour = _colour(variants, legend=False)  # every row has its name
    base = alt.Chart(alt.NamedData(data))
    names_only = alt.Axis(labels=False, ticks=False, domain=False, grid=False)
    y = alt.Y("label:N", sort=None, title=None, scale=alt.Scale(paddingInner=0.15), axis=names_only)
    lanes = alt.Scale(domain=["name", *splits])
    lane = alt.YOffset("split:N", scale=lanes, sort=None)
    name = alt.YOffset("lane:N", scale=lanes, sort=None)
    ticks = alt.Axis(tickCount=6, labelOverlap="greedy", labelSeparation=4)
    beside_names = alt.Scale(range=[_LETTERS_WIDTH, alt.ExprRef("width")], padding=12, nice=False)
    x = alt.X("difference:Q", title=title, scale=beside_names, axis=ticks)
    filled = alt.condition("datum.split === 'test'", colour, alt.value("transparent"))
    tooltip = ["label:N", "split:N", alt.Tooltip("text:N", title="difference"), "n:Q", "verdict:N"]
    zero = alt.Chart(alt.NamedData(data)).mark_rule(strokeDash=[3, 3], color="#999").encode(x=alt.datum(0))
    ends = {end: _or_else(end, "difference") for end in ("low", "high")}
    intervals = (
        base.transform_calculate(**ends)
        .mark_rule(strokeWidth=2)
        .encode(alt.X("low:Q", title=title), alt.X2("high:Q"), y, lane, colour)
    )
    dots = base.mark_point(size=60, strokeWidth=2, opacity=1).encode(
        x, y, lane, colour, fill=filled, tooltip=[_typed(item) for item in tooltip]
    )
    letters = base.mark_text(align="left", dx=4, baseline="middle").encode(
        y, lane, x=alt.value(0), text="split:N"
    )
    names = (
        base.transform_filter(f"datum.split === '{splits[0]}'")
        .transform_calculate(lane="'name'")
        .mark_text(align="left", fontWeight="bold", baseline="middle")
        .encode(y, name, x=alt.value(0), text="label:N")
    )
    return alt.layer(zero, intervals, dots, letters, names)


def sweep_chart(variants: Sequence[str], key: str, scale: str, title: str, values: Sequence[Any]) -> Layers:
    """A number over one swept key: mean, ± one standard deviation, and every run. scale: "log", "linear", "ordinal"."""
    import altair as alt

    if scale == "ordinal":
        x = alt.X("key_0", type="ordinal", title=key, sort=list(values), axis=_names_axis(values))
    else:
        ticks = alt.Axis(values=list(values), format="~g")
        scaled = alt.Scale(type=_scale(scale == "log"), padding=14, nice=False)
        x = alt.X("key_0", type="quantitative", title=key, scale=scaled, axis=ticks)
    means, runs = alt.Chart(alt.NamedData("sweep_means")), alt.Chart(alt.NamedData("sweep_runs"))
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False))
    tooltip = [
        alt.Tooltip("variant:N"), alt.Tooltip("setting:N"), _number("mean", title),
        alt.Tooltip("mean_n:Q", title="runs with a number"), alt.Tooltip("failed:Q", title="not finished"),
    ]  # fmt: skip
    shapes = alt.Scale(domain=list(OUTCOMES), range=["circle", *[_CROSS] * (len(OUTCOMES) - 1)])
    shape = alt.Shape("outcome:N", scale=shapes, sort=None, legend=None)
    return alt.layer(
        means.mark_rule(opacity=0.6).encode(
            x, alt.Y("mean_low:Q", title=title), alt.Y2("mean_high:Q"), _colour(variants)
        ),
        runs.mark_point(opacity=0.7, size=40, strokeWidth=1.5).encode(
            x, alt.Y("value:Q", title=title), _colour(variants), shape
        ),
        means.mark_line(strokeWidth=2).encode(x, y, _colour(variants), _dash(variants)),
        means.mark_point(opacity=0, size=200).encode(x, y, tooltip=tooltip),
    )


def heat_chart(
    data: str, keys: tuple[str, str], title: str, values: Sequence[Sequence[Any]], domain: Sequence[float]
) -> Layers:
    """One variant over two swept keys: a cell a setting, with its number written in it."""
    import altair as alt

    base = alt.Chart(alt.NamedData(data))
    x = alt.X(
        "key_0",
        type="ordinal",
        title=keys[0],
        sort=list(values[0]),
        axis=_names_axis(values[0], grid=False),
    )
    y = alt.Y(
        "key_1", type="ordinal", title=keys[1], sort=list(values[1]), axis=alt.Axis(grid=False, labelLimit=0)
    )
    scale = alt.Scale(scheme="cividis", domain=list(domain))
    bright = f"datum.mean > {sum(domain) / 2}"
    tooltip = [
        alt.Tooltip("setting:N"), _number("mean", title), alt.Tooltip("mean_n:Q", title="runs with a number"),
        alt.Tooltip("failed:Q", title="not finished"),
    ]  # fmt: skip
    return alt.layer(
        base.mark_rect(stroke="#888", strokeWidth=0.5).encode(
            x, y, alt.Color("mean:Q", scale=scale, title=title, legend=None), tooltip=tooltip
        ),
        base.mark_text().encode(
            x,
            y,
            alt.Text("text:N"),
            color=alt.condition(bright, alt.value("#111"), alt.value("#fff")),
        ),
    )


#: Letters under an axis that stand beside each other in a paper's column.
_MOST_LETTERS = 40


def _names_axis(values: Sequence[Any], *, grid: bool = True) -> alt.Axis:
    """An axis of names: upright where they are too long to stand side by side, and never cut."""
    import altair as alt

    is_long = len(values) * (1 + max((len(str(value)) for value in values), default=0)) > _MOST_LETTERS
    return alt.Axis(labelAngle=-90 if is_long else 0, labelLimit=0, grid=grid)


def _or_else(field: str, other: str) -> str:
    """An expression: the field, or another where it has no number."""
    return f"isValid(datum['{field}']) ? datum['{field}'] : datum['{other}']"


def zoomable(chart: Layers) -> Layers:
    """Drag to move, shift and wheel to zoom (the wheel alone scrolls the page), double click to reset."""
    import altair as alt

    zoom = alt.selection_interval(name="zoom", bind="scales", zoom="wheel![event.shiftKey]")
    return chart.add_params(zoom)


def _colour(variants: Sequence[str], *, legend: bool = True) -> alt.Color:
    import altair as alt

    scale = alt.Scale(domain=list(variants), range=colours(variants))
    return alt.Color("variant:N", scale=scale, title=None, sort=None, legend=_legend() if legend else None)


def _legend() -> alt.Legend:
    import altair as alt

    return alt.Legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=2, labelLimit=0)


def _dash(variants: Sequence[str]) -> alt.StrokeDash:
    import altair as alt

    scale = alt.Scale(domain=list(variants), range=dashes(variants))
    return alt.StrokeDash("variant:N", scale=scale, title=None, sort=None, legend=_legend())


def _number(field: str, title: str) -> alt.Tooltip:
    import altair as alt

    return alt.Tooltip(field, type="quantitative", title=title, format=".4~g")


def _typed(item: Any) -> alt.Tooltip:
    import altair as alt

    return item if isinstance(item, alt.Tooltip) else alt.Tooltip(item)


def _scale(log: bool) -> Any:
    return "log" if log else "linear"
