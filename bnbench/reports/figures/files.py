"""Figures as files for a paper: one column wide, or as wide as the longest name needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.base.files import write_whole
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures.all import Figure, figures, specification
from bnbench.reports.figures.data import Row

#: A column of a paper, 3.3 inches: Vega's pixel is a point, 1/72 inch.
COLUMN_WIDTH = 238
FONT_SIZE = 8
#: Beside a name in a legend: its line and the gaps. At the left of a plot: the axis, under which no legend goes.
_SYMBOL_WIDTH, _AXIS_WIDTH = 32, 48
_MOST_COLUMNS = 3
_PAPER: dict[str, Any] = {
    "font": "Helvetica, Arial, sans-serif",
    "axis": {
        "labelFontSize": FONT_SIZE,
        "titleFontSize": FONT_SIZE,
        "titleFontWeight": "normal",
        "gridColor": "#e4e4e4",
    },
    "legend": {"orient": "bottom", "labelFontSize": FONT_SIZE, "symbolSize": 120},
    "text": {"fontSize": FONT_SIZE},
    "view": {"stroke": None},
    "background": "white",
}
_PNG_DOTS_PER_INCH = 300


def write_figures(summary: Summary, folder: Path, format: str) -> list[Path]:
    """Every figure as a file of one paper column's width. Raises ResultsError where the folder can't be written."""
    paths = []
    for figure in figures(summary):
        path = folder / f"{figure.name}.{format}"
        content = _render(_for_paper(figure, summary), format)
        write_whole(path, content, fix="--figures with a folder that you may write to.")
        paths.append(path)
    return paths


def _for_paper(figure: Figure, summary: Summary) -> dict[str, Any]:
    at_one_setting = "setting" in figure.controls
    data = {
        name: [
            row
            for row in (figure_data.at_best_setting(rows, summary) if at_one_setting else rows)
            if row.get("by", "step") == "step"
        ]
        for name, rows in figure.data.items()
    }
    names = [] if figure.row_height else figure_data.variant_names(summary)
    columns, width = _legend_columns(names)
    layout = {
        "width": max(COLUMN_WIDTH, width, least_width(figure, FONT_SIZE)),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 2,
        "config": {**_PAPER, "legend": {**_PAPER["legend"], "columns": columns}},
    }
    return {**specification(figure), "height": _height(figure, data), **layout, "datasets": data}


def _legend_columns(names: Sequence[str]) -> tuple[int, int]:
    """In how many columns the names stand whole, and the width of the figure that they need."""
    longest = max((text_width(name, FONT_SIZE) for name in names), default=0) + _SYMBOL_WIDTH
    columns = max(1, min(_MOST_COLUMNS, int((COLUMN_WIDTH - _AXIS_WIDTH) // longest)))
    return columns, math.ceil(columns * longest) + _AXIS_WIDTH


def least_width(figure: Figure, font_size: float) -> int:
    """Pixels that a figure needs so that the names of its rows stand whole; 0 where it has none."""
    if not figure.row_height:
        return 0
    column, _ = figure.row_height
    names = {str(row[column]) for rows in figure.data.values() for row in rows}
    room = 12 if column == "label" else _AXIS_WIDTH + 3 * _SYMBOL_WIDTH  # beside an axis there is also a plot
    return math.ceil(max((text_width(name, font_size) for name in names), default=0) * _BOLD) + room


_BOLD = 1.08


def text_width(text: str, font_size: float) -> float:
    """Pixels of a text in a font like Helvetica, rather too many than too few."""
    return font_size * sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    if letter in "iljI.,:;'|!()[]ft ":
        return 0.38
    if letter in "mwMW@%":
        return 1.0
    if not letter.isascii():
        return 1.05
    return 0.75 if letter.isupper() else 0.6


def _height(figure: Figure, data: Mapping[str, Sequence[Row]]) -> int:
    if not figure.row_height:
        return 150
    column, pixels = figure.row_height
    return max(pixels, pixels * len({row[column] for rows in data.values() for row in rows}))


def _render(spec: dict[str, Any], format: str) -> bytes:
    import vl_convert

    if format == "png":
        return bytes(vl_convert.vegalite_to_png(spec, ppi=_PNG_DOTS_PER_INCH))
    if format == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(spec))
    return vl_convert.vegalite_to_svg(spec).encode()
