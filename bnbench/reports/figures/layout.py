"""The size of a figure, large enough for every name; and a figure complete with its data."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures.data import Row
from bnbench.reports.figures.figure import Figure, specification
from bnbench.reports.figures.names import widest

#: Of the letters in the page's figures; the pixels of `Figure.rows` are for this size.
PAGE_FONT_SIZE = 12
#: Beside the line of a legend, and between a plot and the names at its left.
_GAPS, _PADDING = 16, 12
#: The axis and its title at the left of a plot of lines: no legend goes under them.
_AXIS_WIDTH = 48
#: Pixels of a plot that has names at its left, at least; extra pixels around a number in a cell.
_PLOT_WIDTH, _CELL_PADDING = 130, 8
_MOST_COLUMNS = 3
#: Pixels of a plot of lines.
_PLOT_HEIGHT = 150


@dataclass(frozen=True)
class Style:
    """Of a figure that leaves the page: its width at least, in pixels, the size of its letters, and Vega's config.

    titled: whether its title stands in the picture; a paper has a caption instead.
    """

    width: int
    font_size: int
    config: Mapping[str, Any]
    titled: bool = False


def style(width: int, font_size: int, *, titled: bool = False) -> Style:
    """Dark letters on white, whatever the reader's screen is like."""
    letters = {"labelFontSize": font_size, "titleFontSize": font_size}
    config = {
        "font": "Helvetica, Arial, sans-serif",
        "axis": {
            **letters, "titleFontWeight": "normal", "gridColor": "#e4e4e4", "labelOverlap": "parity",
            "labelSeparation": 3,
        },
        "legend": {  # of lines, and complete
            "orient": "bottom", "labelFontSize": font_size, "labelLimit": 0, "symbolLimit": 0,
            "symbolSize": _symbol_width(font_size) ** 2,
            "symbolType": "stroke", "symbolOpacity": 1, "symbolStrokeWidth": 2,
        },
        "title": {"fontSize": font_size + 2, "anchor": "start", "limit": 0},
        "text": {"fontSize": font_size},
        "view": {"stroke": None},
        "background": "white",
    }  # fmt: skip
    return Style(width, font_size, config, titled)


def title_lines(figure: Figure, width: float, font_size: float) -> list[str]:
    """A figure's title in lines that fit above it."""
    return textwrap.wrap(figure.title, max(20, int(width / font_size)))


def complete_specification(figure: Figure, summary: Summary, look: Style) -> dict[str, Any]:
    """A figure in Vega-Lite with its data, its legend and its size; in a sweep each variant at its best setting."""
    at_one_setting = "setting" in figure.controls
    data = {
        name: [
            row
            for row in (figure_data.at_best_setting(rows, summary) if at_one_setting else rows)
            if row.get("by", "step") == "step"
        ]
        for name, rows in figure.data.items()
    }
    if figure.log:
        data = {name: positive(rows) for name, rows in data.items()}
    names = figure_data.variant_names(summary) if figure.has_legend else []
    columns, legend_width = legend_columns(names, look.font_size, look.width)
    width = max(look.width, legend_width, least_width(figure, look.font_size))
    title = title_lines(figure, width, look.font_size) if look.titled else figure.headline
    return {
        **specification(figure),
        **({"title": title} if title else {}),
        "width": width,
        "height": height(figure, data, look.font_size),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 2,
        "config": {**look.config, "legend": {**look.config["legend"], "columns": columns}},
        "datasets": data,
    }


def positive(rows: Sequence[Row]) -> list[Row]:
    """For a log axis: a loss of 0 or less is left out, and a band that reaches below ends at the least mean."""
    names = [name for name in (rows[0] if rows else ()) if name.endswith("_loss")]
    least = {name: min((row[name] for row in rows if (row[name] or 0) > 0), default=None) for name in names}
    cleaned = []
    for row in rows:
        changed = {name: row[name] if (row[name] or 0) > 0 else None for name in names}
        ends = {f"{name}_low": least[name] for name in names if (row.get(f"{name}_low") or 1) <= 0}
        cleaned.append({**row, **changed, **ends})
    return cleaned


def legend_columns(names: Sequence[str], font_size: float, width: int) -> tuple[int, int]:
    """In how many columns the names stand whole, and the width of the figure that they need."""
    longest = widest(names, font_size) + _symbol_width(font_size) + _GAPS
    columns = max(1, min(_MOST_COLUMNS, int((width - _AXIS_WIDTH) // longest)))
    return columns, math.ceil(columns * longest) + _AXIS_WIDTH


def _symbol_width(font_size: float) -> float:
    """Pixels of the line before a name: so long that it shows the whole of a dash pattern."""
    return 2.5 * font_size


def least_width(figure: Figure, font_size: float) -> int:
    """Pixels that a figure needs so that its names and the numbers in its cells stand whole; 0 for lines."""
    if not figure.rows:
        return 0
    names = math.ceil(widest(figure.labels, font_size)) + _PADDING
    cells = math.ceil(sum(widest([text], font_size) + _CELL_PADDING for text in figure.columns))
    return names + max(_PLOT_WIDTH, cells) + (_AXIS_WIDTH if figure.columns else 0)


def height(figure: Figure, data: Mapping[str, Sequence[Row]], font_size: float) -> int:
    """Pixels of the plot; a row is as high as its letters are large."""
    if not figure.rows:
        return _PLOT_HEIGHT
    column, pixels = figure.rows
    rows = max(1, len({row[column] for table in data.values() for row in table}))
    return math.ceil(pixels * font_size / PAGE_FONT_SIZE * rows)
