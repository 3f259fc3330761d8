"""Altair charts of the networks' inside: strips of histograms, and bands over steps or over depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnbench.base.files import to_json
from bnbench.reports.figures.charts import colour_of, dash_of, number_tip, numbers_axis, or_else
from bnbench.reports.figures.colours import RULE_COLOUR

if TYPE_CHECKING:
    import altair as alt

    from bnbench.reports.figures.charts import Layers

#: How the label of a layer's row starts; any other label is a variant's name, and bold.
LAYER = "layer "
#: Pixels of a row of strips.
ROW_HEIGHT = 15
#: Parts of a column that lie between two strips, on each side of it.
_SIDE = 2 / 44


def strips_chart(
    data: str, labels: Sequence[str], by: str, columns: Sequence[Sequence[str]], ends: tuple[float, float]
) -> Layers:
    """Rows of strips, a picture each, under each other; a line at 0 in every column.

    by: what the columns are; columns: the lines of text below them. ends: the values at the two ends of every strip.
    """
    import altair as alt

    base = alt.Chart(alt.NamedData(data))
    count = len(columns)
    texts = to_json(["=" + "\n".join(lines) for lines in columns], ascii=True, compact=True)
    axis = alt.Axis(
        values=[place + 0.5 for place in range(count)],
        labelExpr=f"split(slice({texts}[floor(datum.value)], 1), '\\n')",
        grid=False, ticks=False, labelAngle=0, labelLimit=0, domain=False,
    )  # fmt: skip
    scale = alt.Scale(domain=[0, count], nice=False, zero=False)
    low, high = ends
    x = alt.X("left:Q", scale=scale, axis=axis, title=f"{by}; each strip from {low:.3g} to {high:.3g}")
    y = alt.Y("row:O", title=None, sort=None, axis=_row_names(labels), scale=alt.Scale(paddingInner=0.12))
    wide = base.transform_calculate(left="0", right=str(count))
    pictures = wide.mark_image(aspect=False, smooth=False, aria=False)
    tips = [alt.Tooltip("variant:N"), alt.Tooltip("layer:N")]
    place = (0 - low) / (high - low)
    zeros = [column + _SIDE + (1 - 2 * _SIDE) * place for column in range(count)]
    zero = base.transform_aggregate(rows="count()").mark_rule(color=RULE_COLOUR, strokeWidth=0.5)
    return alt.layer(
        pictures.encode(x, alt.X2("right:Q"), y, url="image:N", tooltip=tips),
        *(zero.encode(x=alt.datum(at, type="quantitative")) for at in zeros),
    )


def _row_names(labels: Sequence[str]) -> alt.Axis:
    """The labels by the number of their row; the sign before each keeps a name from being one of Vega's own."""
    import altair as alt

    texts = to_json([f"={label}" for label in labels], ascii=True, compact=True)
    heads = to_json(
        [place for place, label in enumerate(labels) if not label.startswith(LAYER)], compact=True
    )
    is_head = f"indexof({heads}, datum.value) >= 0"
    return alt.Axis(
        labelExpr=f"slice({texts}[datum.value], 1)", labelLimit=0, labelPadding=6, ticks=False, domain=False,
        grid=False, labelOverlap=False,
        labelFontWeight=alt.condition(is_head, alt.value("bold"), alt.value("normal")),
    )  # fmt: skip


@dataclass(frozen=True)
class Axes:
    """The titles of the axes of a chart of bands. log: whether the vertical one is on a log scale.

    of_steps: whether the horizontal one has steps, on a log scale with a place for 0; else it has depths. ticks: of
    the vertical one; none for those that Vega chooses.
    """

    x: str
    y: str
    log: bool = False
    of_steps: bool = False
    ticks: tuple[float, ...] = ()


def band_chart(
    variants: Sequence[str], data: str, axes: Axes, ends: tuple[str, str], places: Sequence[int]
) -> Layers:
    """The middle of each variant as a line with its points, between its two ends.

    ends: what the two are called. places: on the horizontal axis; at a single one the variants stand side by side.
    """
    import altair as alt

    single = len(places) == 1
    base = alt.Chart(alt.NamedData(data))
    vertical = alt.Scale(type="log", nice=False, padding=10) if axes.log else alt.Scale(zero=False)
    tooltip = [
        alt.Tooltip("variant:N"), alt.Tooltip("layer:N"), alt.Tooltip("at:Q", title=axes.x),
        number_tip("mid", axes.y), number_tip("low", ends[0]), number_tip("high", ends[1]), alt.Tooltip("n:Q"),
    ]  # fmt: skip
    ticks = numbers_axis(**({"values": list(axes.ticks)} if axes.ticks else {}))
    x, y = _horizontal(axes, places), alt.Y("mid:Q", title=axes.y, scale=vertical, axis=ticks)
    side = alt.XOffset("variant:N", scale=alt.Scale(domain=list(variants)), sort=None)
    beside: dict[str, Any] = {"xOffset": side} if single else {}
    known = base.transform_calculate(low=or_else("low", "mid"), high=or_else("high", "mid"))
    band = known.mark_rule(strokeWidth=2, opacity=0.5) if single else known.mark_area(opacity=0.15)
    lower = alt.Y("low:Q", title=axes.y, scale=vertical, axis=ticks)
    line = base.mark_line(strokeWidth=2).encode(x, y, colour_of(variants), dash_of(variants))
    points = base.mark_point(size=30, filled=True, opacity=1)
    return alt.layer(
        band.encode(x, lower, alt.Y2("high:Q"), colour_of(variants), **beside),
        *([] if single else [line]),
        points.encode(x, y, colour_of(variants), tooltip=tooltip, **beside),
    )


def _horizontal(axes: Axes, places: Sequence[int]) -> alt.X:
    import altair as alt

    if len(places) == 1:
        return alt.X("at:O", title=axes.x, axis=alt.Axis(labelAngle=0, grid=False))
    if axes.of_steps:
        ticks = alt.Axis(values=sorted({places[0], *_LOG_TICKS, places[-1]}), format=",d", grid=False)
        return alt.X("at:Q", title=axes.x, scale=alt.Scale(type="symlog", nice=False), axis=ticks)
    whole = alt.Axis(values=list(places), format="d", grid=False)
    return alt.X("at:Q", title=axes.x, scale=alt.Scale(nice=False, zero=False, padding=8), axis=whole)


_LOG_TICKS = [0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
