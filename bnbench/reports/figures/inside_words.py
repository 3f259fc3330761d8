"""The text alternatives of the figures of the networks' inside: a sentence, and the numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnbench.analysis.contents import Summary
from bnbench.analysis.inside.contents import Histogram, Kind
from bnbench.reports.figures.data import Row, setting_text
from bnbench.reports.figures.in_words import by_label, number_text
from bnbench.reports.figures.inside_data import Strips, spaced
from bnbench.reports.tables.table import Table
from bnbench.study.labels import cell_label

#: Places of one variant in a table of bands.
_MOST_ROWS = 24
_WORDS: dict[Kind, str] = {"pre": "pre-activations", "post": "activations"}


def strip_words(summary: Summary, kind: Kind, strips: Strips) -> str:
    """The standard deviation of every variant in its first and its last layer, in the first and the last column."""
    parts = []
    for name in dict.fromkeys(histogram.variant for histogram in strips.histograms):
        own = [h for h in strips.histograms if h.variant == name]
        first, last = own[0], own[-1]
        parts.append(
            f"{name} from {_deviation(first):.3g} (layer {first.depth}, {_where(first)}) to {_deviation(last):.3g} "
            f"(layer {last.depth}, {_where(last)})"
        )
    return f"Histograms of the {_WORDS[kind]}; their standard deviation: {'; '.join(parts)}."


def strip_table(summary: Summary, kind: Kind, strips: Strips) -> Table:
    """Mean and standard deviation of every drawn histogram."""
    rows = [
        (
            cell_label(h.variant, h.setting),
            str(h.depth),
            h.layer,
            f"{h.step:,}",
            f"{_mean(h):.3g}",
            f"{_deviation(h):.3g}",
        )
        for h in strips.histograms
    ]
    columns = ("variant", "layer", "name", "step", "mean", "standard deviation")
    caption = f"Of the {_WORDS[kind]}, from the bins of the histograms, all seeds together."
    return Table("", caption, columns, tuple(rows), "lrlrrr")


def band_words(rows: Sequence[Row], what: str, by: str) -> str:
    """The first and the last middle of every variant."""
    parts = [
        f"{label} from {number_text(own[0]['mid'])} at {by} {own[0]['at']} "
        f"to {number_text(own[-1]['mid'])} at {by} {own[-1]['at']}"
        for label, own in by_label(rows)
    ]
    return f"Lines of the {what} by {by}: {'; '.join(parts)}."


def band_table(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    """The middle and the ends of every variant, at two dozen places at most."""
    lines = [
        (label, str(row["at"]), row["layer"], *(number_text(row[name]) for name in ("mid", "low", "high")))
        for label, own in by_label(rows)
        for row in spaced(own, _MOST_ROWS)
    ]
    place, *others = columns
    return Table("", "", ("variant", place, "name", *others), tuple(lines), "lrlrrr")


def _where(histogram: Histogram) -> str:
    setting = setting_text(histogram.setting)
    return f"step {histogram.step:,}{f', {setting}' if setting else ''}"


def _mean(histogram: Histogram) -> float:
    total = sum(histogram.counts) or math.nan
    return math.fsum(m * c for m, c in zip(histogram.middles, histogram.counts, strict=True)) / total


def _deviation(histogram: Histogram) -> float:
    total, centre = sum(histogram.counts) or math.nan, _mean(histogram)
    pairs = zip(histogram.middles, histogram.counts, strict=True)
    return math.sqrt(math.fsum((m - centre) ** 2 * c for m, c in pairs) / total)
