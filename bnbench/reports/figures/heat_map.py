"""Heat maps: a cell a setting of two swept keys, with its number written in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bnbench.reports.figures.charts import names_axis, number_tip
from bnbench.reports.figures.colours import CELL_BORDER

if TYPE_CHECKING:
    from bnbench.reports.figures.charts import Layers

#: Values that span so many decades are coloured by their logarithm.
_DECADES = 2
#: Of the way from the darkest to the brightest colour: beyond it black can be read better than white.
_BRIGHT = 0.47


@dataclass(frozen=True)
class ColourScale:
    """Of all maps of a study: the values at its ends, and the value from which a colour is bright."""

    kind: Literal["linear", "log"]
    low: float
    high: float

    @property
    def bright(self) -> float:
        """The value from which letters are black."""
        if self.kind == "log":
            return float(self.low * (self.high / self.low) ** _BRIGHT)
        return self.low + _BRIGHT * (self.high - self.low)


def colour_scale(values: Sequence[float]) -> ColourScale:
    """From the least to the largest value; around the value where all are equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        return ColourScale("linear", low - 0.5, high + 0.5)
    logarithmic = low > 0 and math.log10(high / low) >= _DECADES
    return ColourScale("log" if logarithmic else "linear", low, high)


def heat_chart(
    data: str, keys: tuple[str, str], title: str, values: Sequence[Sequence[Any]], colour: ColourScale
) -> Layers:
    """One variant over two swept keys; a cell without a number has the ground's colour."""
    import altair as alt

    base = alt.Chart(alt.NamedData(data))
    first = names_axis(values[0], grid=False)
    x = alt.X("key_0", type="ordinal", title=keys[0], sort=list(values[0]), axis=first)
    second = alt.Axis(grid=False, labelLimit=0)
    y = alt.Y("key_1", type="ordinal", title=keys[1], sort=list(values[1]), axis=second)
    scale = alt.Scale(scheme="cividis", type=colour.kind, domain=[colour.low, colour.high])
    tooltip = [
        alt.Tooltip("setting:N"), number_tip("mean", title), alt.Tooltip("mean_n:Q", title="runs with a number"),
        alt.Tooltip("failed:Q", title="not finished"),
    ]  # fmt: skip
    cells = base.transform_filter("isValid(datum.mean)").mark_rect()
    borders = base.mark_rect(stroke=CELL_BORDER, strokeWidth=0.5, fill="transparent")
    letters = alt.condition(f"datum.mean > {colour.bright!r}", alt.value("#000"), alt.value("#fff"))
    numbers = base.transform_filter("isValid(datum.mean)").mark_text()
    gaps = base.transform_filter("!isValid(datum.mean)").mark_text()
    return alt.layer(
        cells.encode(x, y, alt.Color("mean:Q", scale=scale, title=title, legend=None)),
        numbers.encode(x, y, alt.Text("text:N"), color=letters),
        gaps.encode(x, y, alt.Text("text:N")),
        borders.encode(x, y, tooltip=tooltip),
    )
