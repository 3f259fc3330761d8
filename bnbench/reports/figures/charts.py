"""Altair charts of lines: which column is drawn how. The data stay outside, by name; see `data.py`.

A variant has a colour and a dash pattern, and the dash says the same without colour; see `colours.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnbench.reports.figures.colours import colours, dashes
from bnbench.study.evaluation import is_line
from bnbench.study.records import OUTCOMES

if TYPE_CHECKING:
    import altair as alt

    Layers = alt.LayerChart | alt.FacetChart  # as Altair declares what alt.layer gives

_CROSS = "M-0.8,-0.8L0.8,0.8M-0.8,0.8L0.8,-0.8"


@dataclass(frozen=True)
class Measure:
    """The quantity on an axis. percent: a share, between 0 and 100."""

    title: str
    percent: bool


def curve_chart(variants: Sequence[str], column: str, measure: Measure, *, log: bool = False) -> Layers:
    """Mean curves with their band, and every seed faint behind them."""
    import altair as alt

    low, high = f"{column}_low", f"{column}_high"
    x = alt.X("step", type="quantitative", title="step", scale=alt.Scale(nice=False, zero=False))
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    y = alt.Y(column, type="quantitative", title=measure.title, scale=scale, axis=numbers_axis())
    seeds, means = alt.Chart(alt.NamedData("seeds")), alt.Chart(alt.NamedData("means"))
    tooltip = [
        alt.Tooltip("variant", type="nominal"),
        alt.Tooltip("step", type="quantitative", title="step"),
        number_tip(column, measure.title),
        number_tip(low, "mean - std"),
        number_tip(high, "mean + std"),
        alt.Tooltip(f"{column}_n", type="quantitative", title="seeds"),
    ]
    # one seed has no band: its ends are then the line's own, or the axis would have no end
    ends = {end: inside(or_else(end, column), measure) for end in (low, high)}
    band = means.transform_calculate(**ends).mark_area(opacity=0.15)
    return alt.layer(
        band.encode(
            x, alt.Y(low, type="quantitative", title=measure.title), alt.Y2(high), colour_of(variants)
        ),
        seeds.mark_line(opacity=0.3, strokeWidth=0.8).encode(
            x, y, colour_of(variants), detail=["setting:N", "seed:N"]
        ),
        means.mark_line(strokeWidth=2).encode(x, y, colour_of(variants), dash_of(variants)),
        means.mark_point(opacity=0, size=150).encode(x, y, tooltip=tooltip),
    )


def survival_chart(variants: Sequence[str], data: str) -> Layers:
    """Staircases: the share of runs that have reached the target."""
    import altair as alt

    x = alt.X("x:Q", title="step", scale=alt.Scale(nice=False))
    percent = alt.Axis(values=[0, 25, 50, 75, 100])
    above = alt.Scale(domain=[0, 104], nice=False)  # a line at 100 % is seen whole
    y = alt.Y("share:Q", title="runs that reached it (%)", scale=above, axis=percent)
    tooltip = [
        alt.Tooltip("variant:N"),
        alt.Tooltip("x:Q", title="step"),
        alt.Tooltip("k:Q", title="runs that reached it"),
        alt.Tooltip("n:Q", title="of"),
    ]
    base = alt.Chart(alt.NamedData(data))
    stairs = base.mark_line(interpolate="step-after", strokeWidth=2)
    return alt.layer(
        stairs.encode(x, y, colour_of(variants), dash_of(variants)),
        base.mark_point(opacity=0, size=150).encode(x, y, tooltip=tooltip),
    )


def sweep_chart(
    variants: Sequence[str], key: str, measure: Measure, scale: str, values: Sequence[Any]
) -> Layers:
    """A number over one swept key: mean, ± one standard deviation, and every run. scale: "log", "linear", "ordinal"."""
    import altair as alt

    if scale == "ordinal":
        x = alt.X("key_0", type="ordinal", title=key, sort=list(values), axis=names_axis(values))
    else:
        text = "format(datum.value, '~g')"  # an axis's own format has as few digits as its step
        ticks = alt.Axis(values=list(values), labelExpr=text, labelOverlap="greedy", labelSeparation=6)
        kind = {"type": "log"} if scale == "log" else {"type": "linear", "zero": False}
        scaled = alt.Scale(**kind, padding=14, nice=False)
        x = alt.X("key_0", type="quantitative", title=key, scale=scaled, axis=ticks)
    means, runs = alt.Chart(alt.NamedData("sweep_means")), alt.Chart(alt.NamedData("sweep_runs"))
    y = alt.Y("mean:Q", title=measure.title, scale=alt.Scale(zero=False), axis=numbers_axis())
    tooltip = [
        alt.Tooltip("variant:N"), alt.Tooltip("setting:N"), number_tip("mean", measure.title),
        alt.Tooltip("mean_n:Q", title="runs with a number"), alt.Tooltip("failed:Q", title="not finished"),
    ]  # fmt: skip
    shapes = alt.Scale(domain=list(OUTCOMES), range=["circle", *[_CROSS] * (len(OUTCOMES) - 1)])
    shape = alt.Shape("outcome:N", scale=shapes, sort=None, legend=None)
    ends = {end: inside(f"datum['{end}']", measure) for end in ("mean_low", "mean_high")}
    bars = means.transform_calculate(**ends).mark_rule(opacity=0.6)
    colour, dash = colour_of(variants, inferred=True), dash_of(variants, inferred=True)
    return alt.layer(
        bars.encode(
            x,
            alt.Y("mean_low:Q", title=measure.title),
            alt.Y2("mean_high:Q"),
            colour,
        ),
        runs.mark_point(opacity=0.7, size=40, strokeWidth=1.5).encode(
            x, alt.Y("value:Q", title=measure.title), colour, shape
        ),
        means.mark_line(strokeWidth=2).encode(x, y, colour, dash),
        means.mark_point(opacity=0, size=200).encode(x, y, tooltip=tooltip),
    )


def numbers_axis(**options: Any) -> alt.Axis:
    """An axis of numbers; a huge or tiny one has four digits and an exponent."""
    import altair as alt

    extreme = "abs(datum.value) >= 1e6 || (datum.value && abs(datum.value) < 1e-4)"
    return alt.Axis(labelExpr=f"{extreme} ? format(datum.value, '.4~g') : datum.label", **options)


#: Letters under an axis that stand beside each other in a paper's column.
_MOST_LETTERS = 40


def names_axis(values: Sequence[Any], *, grid: bool = True) -> alt.Axis:
    """An axis of names: upright where they are too long to stand side by side, and never cut."""
    import altair as alt

    is_long = len(values) * (1 + max((len(str(value)) for value in values), default=0)) > _MOST_LETTERS
    return alt.Axis(labelAngle=-90 if is_long else 0, labelLimit=0, grid=grid)


def or_else(field: str, other: str) -> str:
    """An expression: the field, or another where it has no number."""
    return f"(isValid(datum['{field}']) ? datum['{field}'] : datum['{other}'])"


def inside(expression: str, measure: Measure, low: int = 0) -> str:
    """An expression that stays within the values that a share can have: no axis goes beyond them."""
    return (
        f"isValid({expression}) ? clamp({expression}, {low}, 100) : null" if measure.percent else expression
    )


def zoomable(chart: Layers) -> Layers:
    """Drag to pan, Shift and scroll to zoom (scrolling alone moves the page), double click to reset."""
    import altair as alt

    zoom = alt.selection_interval(name="zoom", bind="scales", zoom="wheel![event.shiftKey]")
    return chart.add_params(zoom)


def colour_of(variants: Sequence[str], *, legend: bool = True, inferred: bool = False) -> alt.Color:
    """The colour of a variant; how its legend looks is a matter of the page or the file.

    inferred: whether the figure shows further ways of inference, too; where it does not, nor does its legend.
    """
    import altair as alt

    scale = alt.Scale(domain=list(variants), range=colours(variants))
    shown = _legend(variants, inferred) if legend else None
    return alt.Color("variant:N", scale=scale, title=None, sort=None, legend=shown)


def dash_of(variants: Sequence[str], *, inferred: bool = False) -> alt.StrokeDash:
    """The dash pattern of a variant, which says the same as its colour. inferred: see `colour_of`."""
    import altair as alt

    scale = alt.Scale(domain=list(variants), range=dashes(variants))
    legend = _legend(variants, inferred)
    return alt.StrokeDash("variant:N", scale=scale, title=None, sort=None, legend=legend)


def _legend(variants: Sequence[str], inferred: bool) -> alt.Legend:
    """Colours stay those of all variants, so that a variant has one colour in all figures."""
    import altair as alt

    trained = [variant for variant in variants if not is_line(variant)]
    return alt.Legend() if inferred or len(trained) == len(variants) else alt.Legend(values=trained)


def number_tip(field: str, title: str) -> alt.Tooltip:
    """A number in a tooltip, to four digits."""
    import altair as alt

    return alt.Tooltip(field, type="quantitative", title=title, format=".4~g")
