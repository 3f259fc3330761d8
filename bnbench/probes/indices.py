"""The indices of a run: one number each, from the rows of its probes. Their words are in bnbench/base/indices.py.

An index is NaN where a value that it needs is not finite, and in a run that diverged, all but those of its first step
are; it is absent where its measure was not asked for or the network has no such layers. Steps count equally, and so do
layers and units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bnbench.study.records import DEPTH, HIDDEN, ProbeRow

#: By step, by unit.
Values = dict[int, dict[str, float]]
#: Share of the probed steps at which the Hessian's eigenvalue has to be found for the index to be a number.
CONVERGED = 0.5


class Rows:
    """The rows of one run by quantity and layer. layers, hidden: names in order of depth; others: without a depth."""

    def __init__(self, rows: Iterable[ProbeRow]) -> None:
        self._values: dict[tuple[str, str], Values] = {}
        for step, layer, quantity, unit, value in rows:
            self._values.setdefault((quantity, layer), {}).setdefault(step, {})[unit] = value
        depths = {
            layer: self.series(DEPTH, layer)[0] for quantity, layer in self._values if quantity == DEPTH
        }
        self.layers = sorted(depths, key=lambda layer: depths[layer])
        self.others = list(dict.fromkeys(layer for _, layer in self._values if layer not in depths))
        self.hidden = [layer for layer in self.layers if self.series(HIDDEN, layer) == [1.0]]

    def of(self, quantity: str, layer: str) -> Values:
        """The values of a quantity of a layer; empty where there are none."""
        return self._values.get((quantity, layer), {})

    def series(self, quantity: str, layer: str) -> list[float]:
        """The values of the layer as a whole, in order of the steps."""
        values = self.of(quantity, layer)
        return [values[step][""] for step in sorted(values) if "" in values[step]]

    def units(self, quantity: str, layer: str) -> tuple[list[int], Any]:
        """The steps, and the values as an array (steps, units): the same units at every step."""
        values = self.of(quantity, layer)
        steps = sorted(values)
        names = list(values[steps[0]]) if steps else []
        return steps, np.array([[values[step].get(name, math.nan) for name in names] for step in steps])


def indices(rows: Iterable[ProbeRow], *, diverged: bool = False) -> dict[str, float]:
    """Every index that the rows of a run have the numbers for. See docs/probes.md for the sources.

    diverged: whether the loss or the weights of the run are not finite in the end.

    drift, drift_floor      of the last hidden layer that has units: see `drift_of`
    shift_cosine            mean over steps and layers of cos(G, G') (Santurkar et al. 2018, definition 2.1)
    shift_norm              mean over steps and layers of ‖G - G'‖ / ‖G‖
    shift_..._floor         the same of two batches without an update
    loss_range              median over steps of the range of the loss along the gradient (the same, section 3.1)
    gradient_change         median over steps of the largest ‖g - g(W - f lr g)‖ / ‖g‖
    smoothness              median over steps of the largest ‖g - g(W - f lr g)‖ / ‖f lr g‖
    update_loss_range, ...  the three along the study's own update
    sharpness_train, _eval  median over the steps with a converged largest eigenvalue of the Hessian; NaN where
                            that is less than half of them
    converged_train, _eval  share of the steps with a converged eigenvalue
    gradient_growth         see `growth_of`
    dead_share              mean over hidden layers of the share of units that pass no gradient, last probe
    saturated_share         mean over hidden layers of the share of units saturated for every sample, last probe
    update_ratio            median over steps and layers of ‖Δw‖ / ‖w‖
    """
    kept = Rows(rows)
    found: dict[str, float] = {}
    drifts = [drift_of(kept, layer) for layer in kept.hidden]
    if known := [drift for drift in drifts if drift]:
        found |= known[-1]
    for name in ("shift_cosine", "shift_norm", "shift_cosine_floor", "shift_norm_floor"):
        found |= _over_all(kept, name, kept.layers, np.mean)
    for name in ("loss_range", "gradient_change", "smoothness"):
        for prefix in ("", "update_"):
            found |= _over_all(kept, f"{prefix}{name}", kept.others, np.median)
    for mode in ("train", "eval"):
        found |= _sharpness(kept, mode)
    if (growth := growth_of(kept)) is not None:
        found["gradient_growth"] = growth
    for name in ("dead_share", "saturated_share"):
        last = [series[-1] for layer in kept.hidden if (series := kept.series(name, layer))]
        found |= {name: float(np.mean(last))} if last else {}
    found |= _over_all(kept, "update_ratio", kept.layers, np.median)
    if diverged:  # numbers that are still finite then are those of the way there, such as 1e9 over 1e9
        found |= dict.fromkeys(found.keys() - {"gradient_growth"}, math.nan)
    return found


def drift_rows(rows: Sequence[ProbeRow]) -> Iterator[ProbeRow]:
    """The drift of every hidden layer and its floor, as rows of the last probed step."""
    kept, last = Rows(rows), max((row.step for row in rows), default=0)
    for layer in kept.hidden:
        for name, value in drift_of(kept, layer).items():
            yield ProbeRow(last, layer, name, "", value)


def drift_of(rows: Rows, layer: str) -> dict[str, float]:
    """Ioffe's internal covariate shift: how far the distribution of a unit moves over training, in its own widths.

    With m_t the median of a unit's pre-activation over the probe batch at the probed step t, and w_t the distance of
    its percentiles 15 and 85 (Ioffe & Szegedy 2015, arXiv 1502.03167, figure 1 b, c show these three),

        drift = median over units of (max_t m_t - min_t m_t) / mean_t w_t

    The floor is the same number of a network that stands still, seen by another batch at each of the T steps. Of
    two batches the medians m, m' lie |m - m'| apart; for normal noise of deviation σ that is 2σ/√π in the mean, and
    the range of T such medians is d(T) σ in the mean, so

        drift_floor = median over units of d(T) √π/2 mean_t |m_t - m'_t| / mean_t w_t

    The drift itself is that of one batch, which it shares between its steps, so that most of this noise cancels in
    it: a drift above the floor exceeds the sampling noise, and one below it is smaller than what changes from batch to
    batch.
    Empty without units or with a single step. A unit that never has a width nor moves has a drift of 0.
    """
    steps, medians = rows.units("unit_p50", layer)
    if len(steps) < 2:
        return {}
    width = (rows.units("unit_p85", layer)[1] - rows.units("unit_p15", layer)[1]).mean(0)
    found = {"drift": _median_share(np.ptp(medians, axis=0), width)}
    seen, others = rows.units("unit_p50_other", layer)
    if seen:
        noise = (
            np.abs(medians[[steps.index(step) for step in seen]] - others).mean(0) * math.sqrt(math.pi) / 2
        )
        found["drift_floor"] = _median_share(mean_range(len(steps)) * noise, width)
    return found


@lru_cache(64)
def mean_range(count: int) -> float:
    """The mean range of so many independent standard normal numbers, d(2) = 2/√π: ∫ 1 - Φⁿ - (1 - Φ)ⁿ."""
    x = np.linspace(-9, 9, 4001)
    below = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in x])
    return float((1 - below**count - (1 - below) ** count).sum() * (x[1] - x[0]))


def growth_of(rows: Rows) -> float | None:
    """By which factor squared gradients grow from a layer to the one below it, at the first probed step.

    exp(-slope) of the straight line through log ‖dL/dz_l‖² over the depth l, z_l what enters the activation of
    hidden layer l, by least squares; without the first hidden layer, whose inputs are data. In ReLU networks with batch
    norm π/(π - 1) at initialization as width and batch grow (Yang et al. 2019, arXiv 1902.08129). None
    with less than three such layers, or layers of different widths, between which gradients change for another
    reason.
    """
    layers = rows.hidden[1:]
    series = [rows.series("pre_gradient_norm", layer)[:1] for layer in layers]
    widths = {size for layer in layers for size in rows.series("units", layer)[:1]}
    if len(layers) < 3 or not all(series) or len(widths) > 1:
        return None
    norms = np.array([first for (first,) in series])
    if not (np.isfinite(norms).all() and norms.all()):
        return math.nan
    depth = [rows.series(DEPTH, layer)[0] for layer in layers]
    return float(np.exp(-np.polyfit(depth, 2 * np.log(norms), 1)[0]))


def _sharpness(rows: Rows, mode: str) -> dict[str, float]:
    values = [(layer, rows.series(f"sharpness_{mode}", layer)) for layer in rows.others]
    for layer, series in values:
        if series:
            converged = np.array(rows.series(f"hessian_converged_{mode}", layer)) == 1
            share = float(converged.mean())
            value = float(np.median(np.array(series)[converged])) if share >= CONVERGED else math.nan
            return {f"sharpness_{mode}": value, f"converged_{mode}": share}
    return {}


def _over_all(
    rows: Rows, quantity: str, layers: Sequence[str], average: Callable[[Any], Any]
) -> dict[str, float]:
    values = [value for layer in layers for value in rows.series(quantity, layer)]
    return {quantity: float(average(np.array(values)))} if values else {}


def _median_share(part: Any, whole: Any) -> float:
    """The median of part / whole over units; 0/0 is 0. NaN where a part is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((part == 0) & (whole == 0), 0.0, part / whole)
    value = float(np.median(share)) if np.isfinite(part).all() else math.nan
    return value if math.isfinite(value) else math.nan
