"""Forest plots: each variant's name in a column of its own, and beside it its differences with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnbench.base.files import to_json
from bnbench.reports.figures.charts import Measure, colour_of, inside, numbers_axis, or_else
from bnbench.reports.figures.colours import RULE_COLOUR
from bnbench.reports.figures.names import fold

if TYPE_CHECKING:
    import altair as alt

    from bnbench.reports.figures.charts import Layers

#: Pixels at the left of the plot for "test" and "val", which no interval and no line may cross.
_LETTERS_WIDTH = 34
#: Pixels of one interval, of one line of a name, and between two variants.
_LANE, _LINE, _GAP = 16, 15, 12


def row_height(labels: Sequence[str], splits: Sequence[str]) -> int:
    """Pixels of one variant: its intervals and its name have room."""
    lines = max((len(fold(label)) for label in labels), default=1)
    return max(_LANE * len(splits), _LINE * lines) + _GAP


def forest_chart(
    variants: Sequence[str], data: str, measure: Measure, splits: Sequence[str], labels: Sequence[str]
) -> Layers:
    """Every variant's differences with their intervals, and the line of no difference."""
    import altair as alt

    colour = colour_of(variants, legend=False)  # every row has its name
    base = alt.Chart(alt.NamedData(data))
    several = len(splits) > 1
    y = alt.Y("label:N", sort=None, title=None, scale=alt.Scale(paddingInner=0.2), axis=_names(labels))
    lane = alt.YOffset("split:N", scale=alt.Scale(domain=list(splits)), sort=None)
    ticks = numbers_axis(tickCount=6, labelOverlap="parity", labelSeparation=6)
    start = _LETTERS_WIDTH if several else 4
    beside = alt.Scale(range=[start, alt.ExprRef("width")], padding=12, nice=False)
    x = alt.X("difference:Q", title=measure.title, scale=beside, axis=ticks)
    filled = alt.condition("datum.split === 'test'", colour, alt.value("transparent"))
    tooltip = [
        alt.Tooltip("label:N", title="variant"), "split:N", alt.Tooltip("text:N", title="difference [95% CI]"),
        alt.Tooltip("n:Q", title="pairs"), alt.Tooltip("verdict:N"),
    ]  # fmt: skip
    once = base.transform_aggregate(rows="count()")
    zero = once.mark_rule(strokeDash=[3, 3], color=RULE_COLOUR).encode(x=alt.datum(0))
    ends = {end: inside(or_else(end, "difference"), measure, low=-100) for end in ("low", "high")}
    intervals = base.transform_calculate(**ends).mark_rule(strokeWidth=2)
    dots = base.mark_point(size=60, strokeWidth=2, opacity=1)
    letters = base.mark_text(align="left", dx=4, baseline="middle")
    return alt.layer(
        zero,
        intervals.encode(alt.X("low:Q", title=measure.title), alt.X2("high:Q"), y, lane, colour),
        dots.encode(x, y, lane, colour, fill=filled, tooltip=tooltip),
        *([letters.encode(y, lane, x=alt.value(0), text="split:N")] if several else []),
    )


def _names(labels: Sequence[str]) -> alt.Axis:
    """The names, long ones folded into lines: a list in JSON is an expression of Vega too.

    The sign before each keeps Vega from taking a name such as "constructor" for one of its own.
    """
    import altair as alt

    names = to_json([f"={label}" for label in labels], ascii=True, compact=True)
    folded = to_json(["=" + "\n".join(fold(label)) for label in labels], ascii=True, compact=True)
    return alt.Axis(
        labelExpr=f"split(slice({folded}[indexof({names}, '=' + datum.value)], 1), '\\n')",
        labelLimit=0, labelPadding=8, ticks=False, domain=False, grid=False,
    )  # fmt: skip
