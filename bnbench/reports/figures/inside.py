"""The figures of the networks' inside. Each says which layers and steps it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bnbench.analysis.contents import Summary
from bnbench.analysis.inside.contents import Kind
from bnbench.analysis.inside.layers import GRADIENT_NORM
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures import inside_data
from bnbench.reports.figures.data import Row, variant_names
from bnbench.reports.figures.figure import INSIDE, Figure, kind_of_figure
from bnbench.reports.figures.inside_charts import ROW_HEIGHT, Axes, band_chart, strips_chart
from bnbench.reports.figures.inside_words import band_table, band_words, strip_table, strip_words

_KINDS: dict[Kind, str] = {"pre": "Pre-activations", "post": "Activations"}


@dataclass(frozen=True)
class _Words:
    """A figure of bands in words. what: its middle, as a noun; columns: of its table, behind the variant."""

    name: str
    title: str
    caption: str
    what: str
    columns: tuple[str, str, str, str]


@kind_of_figure
def _strips(summary: Summary) -> Iterator[Figure]:
    """Histograms of what enters and what leaves the activations, layer by layer and step by step."""
    for kind, title in _KINDS.items():
        made = inside_data.strips(summary, kind)
        if made is None:
            continue
        name = f"inside_strips_{kind}"
        by = "setting" if made.columns[0].setting else "step"
        lines = [column.lines for column in made.columns]
        yield Figure(
            name=name,
            title=f"{title} by layer and {by}",
            caption="Each strip is a histogram: all units of a layer on the probe batch, all seeds together, from "
            f"{made.low:.3g} to {made.high:.3g} (line: 0). One colour scale: full colour where one of "
            f"{inside_data.BINS} bins holds {100 * inside_data.FULL_SHARE:.0f}% or more; interpolated "
            f"between the bins of probes.csv.{_which(summary, made)}",
            alternative=strip_words(summary, kind, made),
            table=strip_table(summary, kind, made),
            data={name: made.rows},
            draw=partial(strips_chart, name, made.labels, by, lines, (made.low, made.high)),
            rows=("row", ROW_HEIGHT),
            labels=tuple(made.labels),
            columns=tuple(max(column, key=len) for column in lines),
            section=INSIDE,
        )


def _which(summary: Summary, made: inside_data.Strips) -> str:
    """What the columns are, and what is left out."""
    if made.columns[0].setting:
        columns = f"Columns: {'; '.join(column.text for column in made.columns)}."
    else:
        columns = f"Columns: step {', '.join(column.text for column in made.columns)}."
        if best := figure_data.best_settings(summary):
            at = ", ".join(f"{name} at {setting}" for name, setting in best.items())
            columns += f" Each variant is at its best setting: {at}."
    parts = []
    if made.drawn_layers < made.layers:
        parts.append(f"{made.drawn_layers} of {made.layers} layers, evenly spaced")
    if (drawn := len({column.step for column in made.columns})) < made.steps:
        parts.append(
            f"{drawn} of {made.steps} steps, from the first to the last, evenly spaced by their logarithm"
        )
    return f" {columns}" + (f" Drawn: {'; '.join(parts)}; probes.csv has all." if parts else "")


@kind_of_figure
def _gradients(summary: Summary) -> Iterator[Figure]:
    """The norm of the gradient over depth, at the first and at the last step."""
    numbers = [n for n in summary.inside.numbers if n.quantity == GRADIENT_NORM]
    steps = sorted({number.step for number in numbers})
    for place, step in zip(("first", "last"), dict.fromkeys([*steps[:1], *steps[-1:]]), strict=False):
        words = _Words(
            f"inside_gradients_{place}",
            f"Norm of the gradient by layer, step {step:,}",
            "Of each layer's weight, on the probe batch: geometric mean over seeds; band: one standard deviation "
            "of the logarithm (n-1).",
            "norm of the gradient",
            ("layer", "gradient norm", "-1 sd", "+1 sd"),
        )
        yield _bands(
            summary, inside_data.depth_rows(numbers, step), words, Axes("layer", "gradient norm", True)
        )


@kind_of_figure
def _unit(summary: Summary) -> Iterator[Figure]:
    """One unit's distribution over training: Ioffe & Szegedy 2015, figure 1 (b, c)."""
    unit = summary.inside.unit
    if unit and len({band.at for band in unit.bands}) > 1:
        words = _Words(
            "inside_unit",
            f"One unit over training: layer {unit.layer}, unit {unit.unit}",
            "What enters its activation on the probe batch: the median, and a band from percentile 15 to 85 (Ioffe & "
            f"Szegedy 2015, figure 1 b, c). Seed {unit.seed}. Of all units of the layer, the one whose drift is the "
            "median in the baseline.",
            "median of the unit",
            ("step", "median", "15%", "85%"),
        )
        yield _bands(
            summary, inside_data.band_rows(unit.bands), words, Axes("step", "pre-activation", of_steps=True)
        )


@kind_of_figure
def _losses(summary: Summary) -> Iterator[Figure]:
    """The range of the loss along the step: Santurkar et al. 2018, figure 4 (a)."""
    words = _Words(
        "inside_loss_range",
        "Loss along the gradient",
        "Line: the loss of a batch; band: from its smallest to its largest value at 1/2, 1, 2 and 4 times the learning "
        "rate along the gradient (Santurkar et al. 2018, figure 4 a). Geometric means over seeds.",
        "loss",
        ("step", "loss", "smallest", "largest"),
    )
    rows = inside_data.band_rows(summary.inside.losses)
    yield _bands(summary, rows, words, Axes("step", "loss", True, of_steps=True))


@kind_of_figure
def _parameters(summary: Summary) -> Iterator[Figure]:
    """Gamma and beta of every norm after training."""
    for name, bands in (("gamma", summary.inside.gammas), ("beta", summary.inside.betas)):
        words = _Words(
            f"inside_{name}",
            f"{name.capitalize()} after the last step, by layer",
            "Median over the units of all seeds; band: percentiles 5 to 95. Variants without such a parameter are "
            "not drawn.",
            f"median of {name}",
            ("layer", "median", "5%", "95%"),
        )
        yield _bands(summary, inside_data.band_rows(bands), words, Axes("layer", name))


def _bands(summary: Summary, rows: Sequence[Row], words: _Words, axes: Axes) -> Figure:
    """A figure of bands. In a sweep, each variant stands at its best setting, unless the page shows another."""
    swept = bool(summary.best_settings)
    best = " Each variant is at its best setting, unless the page shows another." if swept else ""
    places = sorted({row["at"] for row in rows})
    axes = replace(axes, ticks=tuple(inside_data.decades(rows))) if axes.log else axes
    return Figure(
        name=words.name,
        title=words.title,
        caption=words.caption + best,
        alternative=band_words(rows, words.what, axes.x),
        table=band_table(rows, words.columns),
        data={words.name: rows},
        draw=partial(band_chart, variant_names(summary), words.name, axes, words.columns[2:], places),
        controls=("setting",) if swept else (),
        drawn=any(row["mid"] is not None for row in rows),
        section=INSIDE,
    )
