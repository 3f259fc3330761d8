"""The numbers behind the figures of the networks' inside: which layers and steps are drawn, and as which rows.

A figure shows what fits it: some of the layers and steps, by the rules of `spaced` and `chosen_steps`, and its caption
says what is left out. probes.csv has everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bnbench.analysis.contents import Summary
from bnbench.analysis.inside.contents import Band, Histogram, LayerNumber
from bnbench.reports.figures.data import Row, name_of, setting_text
from bnbench.reports.figures.inside_charts import LAYER
from bnbench.reports.figures.strip_image import strip_image

Item = TypeVar("Item")

#: Layers of one variant in the strips, rows of all variants, and columns (steps, or settings of a sweep).
MOST_LAYERS, MOST_ROWS, MOST_COLUMNS = 12, 60, 6
LEAST_LAYERS = 2
#: Bins of a drawn strip, and the share of the values in one bin that has the full colour.
BINS, FULL_SHARE = 40, 0.2
#: Levels of the colour, with nothing at all.
LEVELS = 16
#: The values that a strip shows reach from this quantile of all values in the figure to its counterpart.
TAIL = 0.005


def spaced(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of them, evenly spaced, with the first and the last.

    >>> spaced([1, 2, 3, 4, 5, 6, 7], 3)
    [1, 4, 7]
    """
    if len(items) <= most:
        return list(items)
    if most < 2:
        return list(items[-1:])
    gap = (len(items) - 1) / (most - 1)
    return [items[round(place * gap)] for place in range(most)]


def chosen_steps(steps: Iterable[int], most: int = MOST_COLUMNS) -> list[int]:
    """At most so many of the probed steps: the first, the last, and between them those nearest to an even log spacing.

    >>> chosen_steps([0, 1, 10, 100, 200, 300, 400, 500], 4)
    [0, 10, 100, 500]
    """
    left = sorted(set(steps))
    if len(left) <= most:
        return left
    low, high = math.log1p(left[0]), math.log1p(left[-1])
    picked = {left[0], left[-1]}
    for place in range(1, most - 1):
        wanted = low + (high - low) * place / (most - 1)
        free = [step for step in left if step not in picked]
        picked.add(min(free, key=lambda step: abs(math.log1p(step) - wanted)))
    return sorted(picked)


@dataclass(frozen=True)
class Column:
    """A column of the strips: a step, in a sweep also a setting."""

    step: int
    setting: str = ""

    @property
    def text(self) -> str:
        """For example "100", or "init.std=0.01, step 0" where settings are columns, too."""
        return f"{self.setting}, step {self.step:,}" if self.setting else f"{self.step:,}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The text below the column; of a setting the values alone."""
        values = (part.partition("=")[2] or part for part in self.setting.split(", "))
        return (", ".join(values), f"step {self.step:,}") if self.setting else (self.text,)


@dataclass(frozen=True)
class Strips:
    """What the strips of one kind show. rows: of the data, one a variant's name or a layer; labels: at their left.

    histograms: the drawn ones. columns: from left to right. low, high: the values at the two ends of every strip.
    drawn_layers, layers, steps: how many layers are drawn, and how many layers and steps there are.
    """

    rows: list[Row]
    histograms: list[Histogram]
    labels: list[str]
    columns: list[Column]
    low: float
    high: float
    drawn_layers: int
    layers: int
    steps: int


def strips(summary: Summary, kind: str) -> Strips | None:
    """Strips of histograms: the variants above each other, their layers below their name, the steps side by side."""
    histograms = [h for h in summary.inside.histograms if h.kind == kind]
    columns, histograms = _columns(summary, histograms)
    if not histograms:
        return None
    names = [name for name in summary.names if any(h.variant == name for h in histograms)]
    depths = sorted({h.depth for h in histograms})
    shown = spaced(depths, max(LEAST_LAYERS, min(MOST_LAYERS, MOST_ROWS // len(names))))
    placed = {(h.variant, h.depth, _column_of(h, columns)): h for h in histograms if h.depth in shown}
    drawn = {place: h for place, h in placed.items() if place[2] in columns}
    low, high = _window(drawn.values())
    layer_names = {h.depth: h.layer for h in histograms}
    rows: list[Row] = []
    labels: list[str] = []
    for name in names:
        own = [depth for depth in shown if any(key[:2] == (name, depth) for key in drawn)]
        clear = strip_image([[0] * BINS] * len(columns))  # the row of the variant's name
        rows.append({"variant": name_of(name), "row": len(labels), "layer": "", "image": clear})
        labels.append(name)
        for depth in own:
            found = [drawn.get((name, depth, column)) for column in columns]
            image = strip_image([_levels(h, low, high) for h in found])
            rows.append(
                {"variant": name_of(name), "row": len(labels), "layer": layer_names[depth], "image": image}
            )
            labels.append(f"{LAYER}{depth}")
    steps = len({h.step for h in summary.inside.histograms})
    return Strips(rows, list(drawn.values()), labels, columns, low, high, len(shown), len(depths), steps)


def _columns(summary: Summary, histograms: Sequence[Histogram]) -> tuple[list[Column], list[Histogram]]:
    """The columns, and the histograms that stand in them.

    In a sweep the settings are columns, each at all steps or at the first and the last, where they fit; else every
    variant is at its best setting.
    """
    steps = sorted({h.step for h in histograms})
    settings = list(dict.fromkeys(setting_text(h.setting) for h in histograms))
    of_each = steps if len(settings) * len(steps) <= MOST_COLUMNS else [steps[0], steps[-1]]
    if len(settings) > 1 and len(settings) * len(of_each) <= MOST_COLUMNS:
        return [Column(step, setting) for setting in settings for step in of_each], list(histograms)
    best = summary.at_best_setting
    at_best = [h for h in histograms if h.variant in best and best[h.variant].setting == h.setting]
    return [Column(step) for step in chosen_steps(h.step for h in at_best)], at_best


def _column_of(histogram: Histogram, columns: Sequence[Column]) -> Column:
    by_setting = bool(columns and columns[0].setting)
    return Column(histogram.step, setting_text(histogram.setting) if by_setting else "")


def _window(histograms: Iterable[Histogram]) -> tuple[float, float]:
    """The values that all strips show: the bins that hold the central 99 % of all values together, and 0."""
    bins = sorted(
        (left, right, count / sum(h.counts))
        for h in histograms
        for left, right, count in zip(h.edges, h.edges[1:], h.counts, strict=False)
        if count
    )
    tail = TAIL * sum(share for _, _, share in bins)
    low = min(0.0, next((left for left, _, passed in _passed(bins) if passed > tail), 0.0))
    high = max(0.0, next((right for _, right, passed in _passed(bins[::-1]) if passed > tail), 0.0))
    return (low, high) if high > low else (-1.0, 1.0)


def _passed(bins: Sequence[tuple[float, float, float]]) -> Iterator[tuple[float, float, float]]:
    """The bins with the share that they hold together with those before them."""
    total = 0.0
    for left, right, share in bins:
        total += share
        yield left, right, total


def _levels(histogram: Histogram | None, low: float, high: float) -> list[int]:
    """The histogram in BINS bins between the ends of a strip, each as a level of the colour.

    The cumulative share is interpolated monotonically between the histogram's bins (PCHIP), which are wider.
    """
    if histogram is None or not sum(histogram.counts):
        return [0] * BINS
    import numpy as np
    from scipy.interpolate import PchipInterpolator

    edges, counts = np.asarray(histogram.edges), np.asarray(histogram.counts)
    cumulative = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    wanted = np.clip(np.linspace(low, high, BINS + 1), edges[0], edges[-1])
    return [_level(share) for share in np.diff(PchipInterpolator(edges, cumulative)(wanted)).tolist()]


def _level(share: float) -> int:
    """From 0 (less than one value in 10,000) to LEVELS - 1, by the square root of the share."""
    if share < 1e-4:
        return 0
    return max(1, min(LEVELS - 1, round((LEVELS - 1) * math.sqrt(share / FULL_SHARE))))


def depth_rows(numbers: Iterable[LayerNumber], step: int) -> list[Row]:
    """A quantity over depth at a step: the geometric mean over seeds, between mean and factor of one deviation."""
    return [
        {
            **_cell(number),
            "at": number.depth,
            "layer": number.layer,
            **_logarithmic(number.spread.values),
            "n": number.spread.n,
        }
        for number in numbers
        if number.step == step and number.spread.n
    ]


def _logarithmic(values: Sequence[float]) -> Row:
    """Geometric mean, and it divided by and times the geometric standard deviation; a 0 has no logarithm."""
    logs = [math.log(value) for value in values if value > 0]
    if not logs:
        return {"mid": None, "low": None, "high": None}
    centre = math.fsum(logs) / len(logs)
    if len(logs) < 2:
        return {"mid": _short(math.exp(centre)), "low": None, "high": None}
    scatter = math.sqrt(math.fsum((log - centre) ** 2 for log in logs) / (len(logs) - 1))
    return {
        "mid": _short(math.exp(centre)),
        "low": _short(math.exp(centre - scatter)),
        "high": _short(math.exp(centre + scatter)),
    }


def band_rows(bands: Iterable[Band]) -> list[Row]:
    """Bands over steps or over depth: their middle and their ends."""
    return [
        {
            **_cell(band),
            "at": band.at,
            "layer": band.layer,
            "mid": _short(band.mid),
            "low": _short(band.low),
            "high": _short(band.high),
            "n": band.n,
        }
        for band in bands
    ]


def _cell(item: Any) -> Row:
    return {"variant": name_of(item.variant), "setting": setting_text(item.setting)}


def _short(value: float | None) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def decades(rows: Iterable[Row], most: int = 7) -> list[float]:
    """Powers of ten for a log axis, where the numbers span more than one; at most about so many."""
    values = [row[name] for row in rows for name in ("low", "mid", "high") if row[name]]
    if not values or max(values) < 20 * min(values):
        return []
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    gap = max(1, math.ceil((last - first) / most))
    return [float(f"1e{power}") for power in range(first, last + 1, gap)]
