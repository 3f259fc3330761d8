"""The description of a figure, independent of its drawing; and the list of all kinds of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnbench.analysis.contents import Summary
from bnbench.reports.figures.data import Row
from bnbench.reports.tables.table import Table

if TYPE_CHECKING:
    from bnbench.reports.figures.charts import Layers


#: The sections of the page that hold figures: of the runs' results, and of the networks' inside.
FIGURES, INSIDE = "figures", "inside"


@dataclass(frozen=True)
class Figure:
    """One figure: rows of data by name, words for those who don't see it, and how it is drawn.

    name: of its file. alternative: what it shows, in a sentence or two. controls: what a reader can change
    in the page: "split", "axis", "setting", "log"; log: whether a loss is on a log scale at first. draw: the
    Altair chart, without its data. rows: of a chart with a row for each value of a column: that column and the
    pixels of a row. labels: the lines of text at its left. columns: texts that stand side by side in the plot,
    such as those of a heat map. headline: what the picture itself has to say where its title is not beside it.
    drawn: whether there is a number to draw. section: of the page that it stands in.
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
    rows: tuple[str, int] | None = None
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    headline: str = ""
    drawn: bool = True
    section: str = FIGURES

    @property
    def has_legend(self) -> bool:
        """Whether its lines have to be named; a row has its name at its left, and a heat map is of one variant."""
        return self.rows is None


#: A kind of figure: a summary gives any number of them.
Kind = Callable[[Summary], Iterable[Figure]]
KINDS: list[Kind] = []


def kind_of_figure(function: Kind) -> Kind:
    """Register a kind of figure; the page lists the kinds in the order of registration."""
    KINDS.append(function)
    return function


def specification(figure: Figure, *, zoom: bool = False) -> dict[str, Any]:
    """The chart as Vega-Lite, without its data. zoom: make the axis movable, where the figure has such an axis."""
    from bnbench.reports.figures.charts import zoomable

    chart = figure.draw()
    vega_lite: dict[str, Any] = (zoomable(chart) if zoom and "axis" in figure.controls else chart).to_dict()
    return {key: value for key, value in vega_lite.items() if key not in ("$schema", "config")}
