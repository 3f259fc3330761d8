"""The figures of the networks' inside. Each says which layers and steps it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bnbench.analysis.contents import Summary
from bnbench.analysis.inside.contents import Kind
from bnbench.analysis.inside.layers import GRADIENT_NORM
from bnbench.base.words import Say, phrases
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures import inside_data
from bnbench.reports.figures.data import Row, variant_names
from bnbench.reports.figures.figure import INSIDE, Figure, kind_of_figure
from bnbench.reports.figures.inside_charts import ROW_HEIGHT, Axes, band_chart, strips_chart
from bnbench.reports.figures.inside_words import band_table, band_words, strip_table, strip_words

_KINDS: tuple[Kind, ...] = ("pre", "post")


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
    say = phrases(summary.language)
    for kind in _KINDS:
        made = inside_data.strips(summary, kind)
        if made is None:
            continue
        name = f"inside_strips_{kind}"
        by = "setting" if made.columns[0].setting else "step"
        lines = [column.lines for column in made.columns]
        shown = say(
            "inside.strips_caption", low=f"{made.low:.3g}", high=f"{made.high:.3g}", bins=inside_data.BINS,
            full=f"{100 * inside_data.FULL_SHARE:.0f}",
        )  # fmt: skip
        yield Figure(
            name=name,
            title=say(f"inside.strips_{kind}{'_settings' * (by == 'setting')}"),
            caption=" ".join([shown, *_which(summary, made, say)]),
            alternative=strip_words(summary, kind, made),
            table=strip_table(summary, kind, made),
            data={name: made.rows},
            draw=partial(strips_chart, name, made.labels, by, lines, (made.low, made.high)),
            rows=("row", ROW_HEIGHT),
            labels=tuple(made.labels),
            columns=tuple(max(column, key=len) for column in lines),
            section=INSIDE,
        )


def _which(summary: Summary, made: inside_data.Strips, say: Say) -> Iterator[str]:
    """What the columns are, and what is left out."""
    if made.columns[0].setting:
        yield say("inside.columns", columns="; ".join(column.text for column in made.columns))
    else:
        yield say("inside.step_columns", columns=", ".join(column.text for column in made.columns))
        if best := figure_data.best_settings(summary):
            settings = ", ".join(f"{name} @ {setting}" for name, setting in best.items())
            yield say("inside.best", settings=settings)
    drawn = len({column.step for column in made.columns})
    if made.drawn_layers < made.layers:
        yield say("inside.some_layers", drawn=made.drawn_layers, all=made.layers)
    if drawn < made.steps:
        yield say("inside.some_steps", drawn=drawn, all=made.steps)
    if drawn < made.steps or made.drawn_layers < made.layers:
        yield say("inside.everything")


@kind_of_figure
def _gradients(summary: Summary) -> Iterator[Figure]:
    """The norm of the gradient over depth, at the first and at the last step."""
    say = phrases(summary.language)
    numbers = [n for n in summary.inside.numbers if n.quantity == GRADIENT_NORM]
    steps = sorted({number.step for number in numbers})
    for place, step in zip(("first", "last"), dict.fromkeys([*steps[:1], *steps[-1:]]), strict=False):
        words = _Words(
            f"inside_gradients_{place}",
            say("inside.gradients", step=f"{step:,}"),
            say("inside.gradients_caption"),
            "norm of the gradient",
            ("layer", "gradient norm", "-1 sd", "+1 sd"),
        )
        yield _bands(
            summary, inside_data.depth_rows(numbers, step), words, Axes("layer", "gradient norm", True)
        )


@kind_of_figure
def _unit(summary: Summary) -> Iterator[Figure]:
    """One unit's distribution over training: Ioffe & Szegedy 2015, figure 1 (b, c)."""
    unit, say = summary.inside.unit, phrases(summary.language)
    if unit and len({band.at for band in unit.bands}) > 1:
        words = _Words(
            "inside_unit",
            say("inside.unit", layer=unit.layer, unit=unit.unit),
            say("inside.unit_caption", seed=unit.seed),
            "median of the unit",
            ("step", "median", "15%", "85%"),
        )
        yield _bands(
            summary, inside_data.band_rows(unit.bands), words, Axes("step", "pre-activation", of_steps=True)
        )


@kind_of_figure
def _losses(summary: Summary) -> Iterator[Figure]:
    """The range of the loss along the gradient: Santurkar et al. 2018, figure 4 (a)."""
    say = phrases(summary.language)
    words = _Words(
        "inside_loss_range",
        say("inside.losses"),
        say("inside.losses_caption"),
        "loss",
        ("step", "loss", "smallest", "largest"),
    )
    rows = inside_data.band_rows(summary.inside.losses)
    yield _bands(summary, rows, words, Axes("step", "loss", True, of_steps=True))


@kind_of_figure
def _parameters(summary: Summary) -> Iterator[Figure]:
    """Gamma and beta of every norm after training."""
    say = phrases(summary.language)
    for name, bands in (("gamma", summary.inside.gammas), ("beta", summary.inside.betas)):
        words = _Words(
            f"inside_{name}",
            say(f"inside.{name}"),
            say("inside.parameter_caption"),
            f"median of {name}",
            ("layer", "median", "5%", "95%"),
        )
        yield _bands(summary, inside_data.band_rows(bands), words, Axes("layer", name))


def _bands(summary: Summary, rows: Sequence[Row], words: _Words, axes: Axes) -> Figure:
    """A figure of bands. In a sweep, each variant stands at its best setting, unless the page shows another."""
    swept = bool(summary.best_settings)
    best = f" {phrases(summary.language)('inside.at_best')}" if swept else ""
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
