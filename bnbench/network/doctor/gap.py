"""The train/eval gap: running, batch and precise statistics of a network on the same batches.

A layer's gap is between its running statistics and the precise ones. With mean m, variance v and index r for running,
its normalized outputs for one input differ by d + (k - 1) z in a channel, where d = (m - m_r) / √(v_r + eps), k =
√((v + eps) / (v_r + eps)) and z has mean 0 and variance v / (v + eps). So the mean square is
d² + (k - 1)² v / (v + eps), which is averaged over channels. Precise statistics are those of a
pass in which the layers before use the statistics of the batch, as in training: running statistics estimate the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.base.gap_records import LayerGap, Measure, MetricGap, OutputGap
from bnbench.network.doctor.data import PatientData
from bnbench.network.doctor.passes import LayerStatistics, Passes, Tracked, running_statistics, tracked_layers
from bnbench.network.doctor.resampling import FEWEST, halves, mean_measure, resampled, size_measure
from bnbench.network.statistics import StatisticsLayer

#: A gap below that many standard deviations does not matter: the noise of an update with momentum 0.1 and batches
#: of 16 values is 0.06.
LEAST = 0.1

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything that was measured. statistics: by layer, in the order of execution. running: those in the layers."""

    tracked: Tracked
    statistics: dict[str, LayerStatistics]
    running: dict[str, Pair]
    layers: tuple[LayerGap, ...]
    output: OutputGap | None
    metrics: tuple[MetricGap, ...]

    @property
    def opened(self) -> tuple[LayerGap, ...]:
        """Layers whose gap is beyond the floor, in the order of execution."""
        return tuple(layer for layer in self.layers if layer.opens)


def measure_gap(model: nn.Module, data: PatientData) -> Measured:
    """Run the data through the network in every way. Leaves the model as it was. Raises BnbenchError."""
    tracked = tracked_layers(model, data.batches[0])
    passes = Passes(model, data.batches, tracked.layers)
    running = passes.running()
    if not tracked.layers:
        return Measured(tracked, {}, {}, (), None, ())
    batch, statistics = passes.batch()
    layers = [layer for layer in tracked.layers if layer.name in statistics]
    held = {layer.name: running_statistics(passes.modules[layer.name], layer) for layer in layers}
    precise = passes.chosen({name: one.total for name, one in statistics.items()})
    gaps = tuple(layer_gap(layer, statistics[layer.name], held[layer.name]) for layer in layers)
    return Measured(
        tracked,
        statistics,
        held,
        gaps,
        _output_gap(passes, statistics, (running, batch, precise)),
        _metric_gaps(data, (running, batch, precise)),
    )


def square_gap(running: Pair, own: Pair, eps: float) -> Tensor:
    """Mean square difference of the normalized outputs over channels: (..., C) statistics to (...)."""
    (mean_r, var_r), (mean, var) = running, own
    scale = (var_r.clamp(min=0) + eps).clamp(min=torch.finfo(torch.float64).tiny)
    shift = (mean - mean_r).square() / scale
    ratio = ((var + eps) / scale).sqrt()
    spread = torch.where(var + eps > 0, var / (var + eps), 0.0)
    return (shift + (ratio - 1).square() * spread).mean(-1)


def layer_gap(layer: StatisticsLayer, statistics: LayerStatistics, running: Pair) -> LayerGap:
    """The gap of one layer, with its interval and its noise floor."""
    eps, batches = layer.form.eps or 0.0, len(statistics.counts)
    square = float(square_gap(running, statistics.total, eps))
    if batches < FEWEST:
        return LayerGap(layer.name, size_measure(torch.empty(0), square), float("nan"), False)
    weights = resampled(batches)
    gap = size_measure(square_gap(running, statistics.weighted(weights), eps), square)
    first, second = (statistics.weighted(half) for half in halves(batches))
    floor = float(square_gap(first, second, eps).sqrt().quantile(0.95))
    return LayerGap(layer.name, gap, floor, gap.low > floor and gap.value >= LEAST)


Outputs = Sequence[Tensor | None]


def _output_gap(
    passes: Passes, statistics: dict[str, LayerStatistics], ways: tuple[Outputs, Outputs, Outputs]
) -> OutputGap | None:
    running, batch, precise = ways
    first, second = halves(len(batch))
    of_halves = [
        passes.chosen({name: _row(one.weighted(half[:1])) for name, one in statistics.items()})
        for half in (first, second)
    ]
    spread = _spread(batch)
    if spread is None:
        return None
    floor = _difference(of_halves[0], of_halves[1], spread)
    return OutputGap(_difference(running, batch, spread), _difference(running, precise, spread), floor.value)


def _row(pair: Pair) -> Pair:
    return pair[0][0], pair[1][0]


def _spread(outputs: Outputs) -> float | None:
    """The variance of the outputs over samples, averaged over all other axes; None where they can't be compared."""
    kept = [one for one in outputs if one is not None and one.is_floating_point() and one.ndim]
    if len(kept) != len(outputs) or len({one.shape[1:] for one in kept}) != 1:
        return None
    values = torch.cat(kept).double()
    variance = float(values.var(0, correction=0).mean())
    return variance if variance > 0 else None


def _difference(one: Outputs, other: Outputs, spread: float) -> Measure:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    squares = torch.stack([(a.double() - b.double()).square().mean() for a, b in pairs]) / spread
    sizes = torch.tensor([len(a) for a, _ in pairs], dtype=torch.float64)
    found = mean_measure(squares, sizes)
    low, high = (max(end, 0.0) ** 0.5 if end == end else end for end in (found.low, found.high))
    return Measure(found.value**0.5, low, high)


def _metric_gaps(data: PatientData, ways: tuple[Outputs, Outputs, Outputs]) -> tuple[MetricGap, ...]:
    """Every metric by each way, where the data has targets."""
    if data.metrics is None:
        return ()
    by_way: list[dict[str, list[float]]] = []
    for outputs in ways:
        values: dict[str, list[float]] = {}
        for batch, one in zip(data.batches, outputs, strict=True):
            found = data.metrics(one, batch.targets) if one is not None and batch.targets is not None else {}
            for name, value in found.items():
                values.setdefault(name, []).append(value)
        by_way.append(values)
    sizes = torch.tensor([batch.size for batch in data.batches], dtype=torch.float64)
    gaps = []
    for name in by_way[0]:
        columns = [torch.tensor(values.get(name, []), dtype=torch.float64) for values in by_way]
        if any(len(column) != len(sizes) for column in columns):
            continue
        running, batch_, precise = columns
        of_running, of_batch, of_precise = (float((column * sizes).sum() / sizes.sum()) for column in columns)
        differences = (mean_measure(running - batch_, sizes), mean_measure(running - precise, sizes))
        gaps.append(MetricGap(name, of_running, of_batch, of_precise, *differences))
    return tuple(gaps)
