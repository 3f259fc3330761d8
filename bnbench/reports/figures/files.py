"""Figures as files for a paper: one column wide, or as wide as the longest name needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.base.files import write_whole
from bnbench.reports.figures.all import Figure, figures
from bnbench.reports.figures.layout import complete_specification, style

#: The formats of a file.
FORMATS = ("svg", "png", "pdf")
#: A column of a paper, 3.3 inches: Vega's pixel is a point, 1/72 inch.
COLUMN_WIDTH = 238
FONT_SIZE = 8
_DOTS_PER_INCH = 300


def write_figures(summary: Summary, folder: Path, format: str, section: str | None = None) -> list[Path]:
    """Every figure as a file of one paper column's width. Raises ResultsError where the folder can't be written.

    section: of the page; None for the figures of all sections.
    """
    paths = []
    for figure in figures(summary):
        if section not in (None, figure.section):
            continue
        path = folder / f"{figure.name}.{format}"
        content = render(figure, summary, format)
        write_whole(path, content, fix="--figures with a folder that you may write to.")
        paths.append(path)
    return paths


def render(figure: Figure, summary: Summary, format: str) -> bytes:
    """One figure, drawn for a paper: what `--figures` writes, byte for byte. format: one of FORMATS."""
    import vl_convert

    spec = complete_specification(figure, summary, style(COLUMN_WIDTH, FONT_SIZE))
    formats: dict[str, Callable[[dict[str, Any]], bytes]] = {
        "svg": lambda spec: vl_convert.vegalite_to_svg(spec).encode(),
        "png": lambda spec: bytes(vl_convert.vegalite_to_png(spec, ppi=_DOTS_PER_INCH)),
        "pdf": lambda spec: bytes(vl_convert.vegalite_to_pdf(spec)),
    }
    return formats[format](spec)
