"""The rows of probes.csv, cell by cell, over seeds: numbers of layers, histograms, one unit, the loss along a step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bnbench.analysis.inside.contents import Band, Histogram, Kind, LayerNumber, UnitBands
from bnbench.analysis.methods.intervals import mean
from bnbench.analysis.pairs import Spread
from bnbench.base.histogram import bin_edges
from bnbench.results import Cell
from bnbench.study.records import DEPTH, HIDDEN, ProbeRow

#: Quantities of probes.csv (docs/probes.md) that figures and tables show.
GRADIENT_NORM = "gradient_norm"
STD: dict[Kind, str] = {"pre": "pre_std", "post": "post_std"}
MEAN: dict[Kind, str] = {"pre": "pre_mean", "post": "post_mean"}
DEAD, SATURATED = "dead_share", "saturated_values"
HISTOGRAM: dict[str, Kind] = {"pre_histogram": "pre", "post_histogram": "post"}
LOSS_ALONG = "loss_along"
#: The layer of a row about the network as a whole, and the unit of the loss before the step.
NETWORK, START = "network", "0"
GAMMA, BETA = "gamma", "beta"
#: What tables and summary.json show of the layers.
SHOWN = (STD["post"], DEAD, SATURATED, GRADIENT_NORM)
#: Percentiles of one unit: its distribution's ends and middle.
UNIT = {"unit_p15": "low", "unit_p50": "mid", "unit_p85": "high"}
#: Percentiles of gamma and beta over units: the ends and the middle of their bands.
_ENDS = (0.05, 0.5, 0.95)


@dataclass
class CellRows:
    """The rows of one cell's runs, sorted by what they are about; only finite numbers.

    depths: layer -> its number from 1. hidden: the layers with others behind them. scalars: (step, layer, quantity)
    -> the numbers of the seeds. bins: (step, layer, kind) -> bin -> count, all seeds together. units: (seed, layer,
    unit) -> step -> which percentile -> value. parameters: (step, gamma or beta, layer) -> the values of all units of
    all seeds. along: step -> seed -> the losses by their distance along the step.
    """

    cell: Cell
    depths: dict[str, int] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    scalars: dict[tuple[int, str, str], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    bins: dict[tuple[int, str, Kind], dict[str, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    units: dict[tuple[int, str, str], dict[int, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    parameters: dict[tuple[int, str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    along: dict[int, dict[int, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )

    def add(self, seed: int, rows: Iterable[ProbeRow]) -> None:
        """The rows of one run."""
        for step, layer, quantity, unit, value in rows:
            if layer != NETWORK:
                self.depths.setdefault(layer, len(self.depths) + 1)
            if not math.isfinite(value):
                continue
            if quantity == DEPTH:
                self.depths[layer] = int(value)
            elif quantity == HIDDEN:
                self.hidden |= {layer} if value else set()
            elif not unit:
                self.scalars[step, layer, quantity][seed] = value
            elif quantity in HISTOGRAM:
                self.bins[step, layer, HISTOGRAM[quantity]][unit] += value
            elif quantity in UNIT:
                self.units[seed, layer, unit][step][UNIT[quantity]] = value
            elif quantity in (GAMMA, BETA):
                self.parameters[step, quantity, layer].append(value)
            elif quantity == LOSS_ALONG:
                self.along[step][seed][unit] = value

    def numbers(self) -> Iterator[LayerNumber]:
        """Every number of a whole layer, over seeds."""
        for (step, layer, quantity), values in self.scalars.items():
            if layer != NETWORK:
                yield LayerNumber(
                    *self._place(), layer, self.depths[layer], step, quantity, Spread.of(values.values())
                )

    def histograms(self) -> Iterator[Histogram]:
        """Every histogram, with its bins in order."""
        for (step, layer, kind), counts in self.bins.items():
            edges, ordered = in_order(counts)
            yield Histogram(*self._place(), layer, self.depths[layer], step, kind, edges, ordered)

    def losses(self) -> Iterator[Band]:
        """The least and the largest loss along the step, and the loss before it: geometric means over seeds."""
        for step, of_seeds in sorted(self.along.items()):
            whole = [losses for losses in of_seeds.values() if START in losses and len(losses) > 1]
            ahead = [[loss for place, loss in losses.items() if place != START] for losses in whole]
            yield Band(
                *self._place(), NETWORK, step,
                _geometric(map(min, ahead)), _geometric(losses[START] for losses in whole), _geometric(map(max, ahead)),
                len(whole),
            )  # fmt: skip

    def parameter_bands(self, name: str) -> Iterator[Band]:
        """The percentiles of gamma or beta over units and seeds, layer by layer, at the last step."""
        last = max((step for step, found, _ in self.parameters if found == name), default=None)
        for (step, found, layer), values in self.parameters.items():
            if (step, found) == (last, name):
                low, mid, high = (quantile(sorted(values), share) for share in _ENDS)
                yield Band(*self._place(), layer, self.depths[layer], low, mid, high, len(values))

    def unit_bands(self, seed: int, layer: str, unit: str) -> Iterator[Band]:
        """The percentiles of one unit of one run over the steps."""
        for step, ends in sorted(self.units.get((seed, layer, unit), {}).items()):
            yield Band(*self._place(), layer, step, ends.get("low"), ends.get("mid"), ends.get("high"), 1)

    def _place(self) -> tuple[str, Mapping[str, object]]:
        return self.cell.variant, self.cell.setting


def unit_over_steps(baseline: CellRows | None, cells: Sequence[CellRows]) -> UnitBands | None:
    """One unit of the last hidden layer: in the baseline's first run, its drift is the median of the layer's units."""
    followed = {name for _, name, _ in baseline.units} & baseline.hidden if baseline else set()
    if baseline is None or not followed:
        return None
    seed = min(seed for seed, _, _ in baseline.units)
    layer = max(followed, key=lambda name: baseline.depths[name])
    drifts = sorted(
        (drift_of(steps), unit)
        for (of, name, unit), steps in baseline.units.items()
        if (of, name) == (seed, layer)
    )
    if not drifts:
        return None
    _, unit = drifts[(len(drifts) - 1) // 2]
    return UnitBands(
        layer, unit, seed, tuple(band for rows in cells for band in rows.unit_bands(seed, layer, unit))
    )


def drift_of(steps: Mapping[int, Mapping[str, float]]) -> float:
    """The range of a unit's median over the steps, in units of its mean width from percentile 15 to 85."""
    whole = [ends for ends in steps.values() if len(ends) == 3]
    if not whole:
        return 0.0
    medians = [ends["mid"] for ends in whole]
    width = mean([ends["high"] - ends["low"] for ends in whole])
    return (max(medians) - min(medians)) / width if width > 0 else math.inf


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted numbers, with linear interpolation between two of them (numpy's default)."""
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def _geometric(values: Iterable[float]) -> float | None:
    positive = [math.log(value) for value in values if value > 0]
    return math.exp(mean(positive)) if positive else None


def in_order(counts: Mapping[str, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The edges of the bins from the first to the last with a value, and their counts; without values not finite.

    The first and the last bin of all, which have no end, are as wide as a factor of two. The bin around 0 reaches to
    0 alone where all other values lie on one side of it.
    """
    numbers = {int(name): count for name, count in counts.items() if name.lstrip("-").isdigit()}
    if not numbers:
        return (), ()
    span = range(min(numbers), max(numbers) + 1)
    edges = [*(bin_edges(number)[0] for number in span), bin_edges(span[-1])[1]]
    edges[0] = edges[0] if math.isfinite(edges[0]) else 2 * edges[1]
    edges[-1] = edges[-1] if math.isfinite(edges[-1]) else 2 * edges[-2]
    if len(span) > 1 and 0 in (span[0], span[-1]):
        edges[0 if span[0] == 0 else -1] = 0.0
    return tuple(edges), tuple(numbers.get(number, 0.0) for number in span)
