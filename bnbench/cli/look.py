"""Looking inside the networks of a study, as `look` does: training with probes, then their tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.cli.display import TABLE, Display, InsideFigures
from bnbench.cli.options import Training

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.results import ResultsFolder

#: What a document holds where --tables names nothing.
_SECTIONS = ("inside", "probes")
#: The folder of the figures in the results folder.
_FIGURES = "figures"


def look_inside(study: str, overrides: Sequence[str], training: Training, display: Display) -> int:
    """Train a study with probes, print what they say, and write figures. Returns the exit code."""
    from bnbench.api.look import with_probe
    from bnbench.cli.run import run_studies

    if display.format != TABLE and display.tables is None:
        display = replace(display, tables=_SECTIONS)
    return run_studies([study], with_probe(overrides), training, display, (), profile=False)


def write_inside(summary: Summary, folder: ResultsFolder, figures: InsideFigures) -> None:
    """Write the figures of the inside. Raises ResultsError where the folder can't be written."""
    from bnbench.reports.figures.figure import INSIDE
    from bnbench.reports.figures.files import write_figures

    write_figures(summary, _place(folder, figures), figures.format, section=INSIDE)


def print_look(summary: Summary, folder: ResultsFolder, figures: InsideFigures) -> None:
    """Print the tables of the layers, the sentences, and where the files are."""
    from bnbench.cli.show import console_on
    from bnbench.reports.inside_console import print_inside
    from bnbench.results import PROBES, REPORT

    place = _place(folder, figures)
    drawn = sorted(place.glob(f"inside_*.{figures.format}")) if place.is_dir() else []
    lines = [f"Figures: {len(drawn)} in {place}"] if drawn else []
    lines += [f"{name}: {folder.path / file}" for name, file in (("Data", PROBES), ("Report", REPORT))]
    print_inside(console_on(stderr=False), summary, lines)


def _place(folder: ResultsFolder, figures: InsideFigures) -> Path:
    return figures.folder or folder.path / _FIGURES
