"""Passes of data through a network that infers with its running statistics, with those of each batch, or others.

Dropout and other noise are off in all of them. Layers that use their running statistics in training, too (frozen ones,
and those that a `train` of the network's own keeps in eval mode), do so in every pass: their statistics are no
estimate of this training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.gap_records import Definition
from bnbench.network.doctor.data import DataBatch
from bnbench.network.doctor.untouched import called, main_output, untouched
from bnbench.network.statistics import StatisticsLayer
from bnbench.network.ways import Total, batch_hook, write_statistics
from bnbench.norms.inference_form import MEAN, VAR, InferenceForm, has_statistics, inference_form

#: By layer: mean and variance of its inputs, (C,) float64.
Chosen = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """Of the inputs of one layer in B batches: counts (B,), means and variances (B, C), float64 on the CPU.

    calls: of every batch, the count, mean and variance of each call of the layer.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor
    calls: tuple[tuple[tuple[int, Tensor, Tensor], ...], ...]

    def weighted(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Total mean and variance of batches that count `weights` (R, B) times: (R, C) each.

        The variance is E[var] + Var[mean], weighted by the batches' values; means are taken from a common centre, so
        that an offset cancels nothing.
        """
        center = self.means.mean(0)
        apart = self.means - center
        values = weights.double() * self.counts
        share = values / values.sum(1, keepdim=True)
        shift = share @ apart
        spread = share @ (self.variances + apart.square()) - shift.square()
        return center + shift, spread.clamp(min=0)

    @property
    def total(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of all values, (C,)."""
        whole = Total()
        for count, mean, var in zip(self.counts.tolist(), self.means, self.variances, strict=True):
            whole.add(int(count), mean, var)
        return torch.as_tensor(whole.mean), torch.as_tensor(whole.var)


@dataclass(frozen=True)
class Tracked:
    """Layers with running statistics in the order of execution. left_out: those that use them in training, too.

    refused: those that can't be tried, with the reason.
    """

    layers: tuple[StatisticsLayer, ...]
    left_out: tuple[str, ...]
    refused: tuple[str, ...]


def tracked_layers(model: nn.Module, batch: DataBatch) -> Tracked:
    """The layers whose running statistics inference uses and training moves. Leaves the model as it was."""
    known = {name: module for name, module in model.named_modules() if has_statistics(module)}
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if arguments and isinstance(arguments[0], Tensor):
                shapes.setdefault(name, tuple(arguments[0].shape))

        return hook

    with untouched(model) as device, torch.no_grad(), ExitStack() as stack:
        training = training_flags(model)
        model.eval()
        for name, module in known.items():
            stack.callback(module.register_forward_pre_hook(note(name)).remove)
        called(model, batch.inputs, device)
    layers: list[StatisticsLayer] = []
    left_out: list[str] = []
    refused: list[str] = []
    tried: dict[object, InferenceForm | None] = {}
    for name, shape in shapes.items():
        module = known[name]
        key = type(module), str(module), shape
        if key not in tried:
            try:
                tried[key] = inference_form(module, shape)
            except ValueError as error:
                tried[key] = None
                refused.append(f"{name}: {error}")
        form = tried[key]
        if form is not None and form.used and not training[module]:
            left_out.append(name)
        elif form is not None and form.takes_statistics:
            layers.append(StatisticsLayer(name, form))
    return Tracked(tuple(layers), tuple(left_out), tuple(refused))


def training_flags(model: nn.Module) -> dict[nn.Module, bool]:
    """Which modules train, and puts them into that mode: as the network's own `train` sets them.

    Where the network is in training mode already, what somebody put into eval mode stays there.
    """
    given = {module: module.training for module in model.modules()}
    kept = model.training
    model.train()
    for module, training in given.items():
        module.training = module.training and (training or not kept)
    return {module: module.training for module in model.modules()}


class Passes:
    """Runs the batches of data through a network; its statistics, flags and the process are left as they were."""

    def __init__(
        self, model: nn.Module, batches: Iterable[DataBatch], layers: Sequence[StatisticsLayer]
    ) -> None:
        self.model, self.batches, self.layers = model, batches, layers
        self.modules = {layer.name: model.get_submodule(layer.name) for layer in layers}

    def running(self) -> list[Tensor | None]:
        """Outputs of every batch by the running statistics."""
        return list(self._run({}, {}))

    def batch(self) -> tuple[list[Tensor | None], dict[str, LayerStatistics]]:
        """Outputs by the statistics of each batch, and those statistics by layer."""
        record = _Record(self.layers)
        outputs = list(self._run({}, record.hooks, record.start))
        return outputs, record.statistics()

    def chosen(self, statistics: Chosen) -> list[Tensor | None]:
        """Outputs by these statistics."""
        return list(self._run(statistics, {}))

    def precise(self, definition: Definition = "batch") -> dict[str, tuple[Tensor, Tensor]]:
        """Total mean and variance of every layer's inputs over all batches.

        definition: "batch" takes one pass, in which each layer normalizes by the statistics of the batch. "layers"
        takes a pass a layer, in which the layers before it have the precise statistics already.
        """
        known: dict[str, tuple[Tensor, Tensor]] = {}
        for layers in [self.layers] if definition == "batch" else [[layer] for layer in self.layers]:
            record = _Record(layers)
            for _ in self._run(known, record.hooks, record.start):
                pass  # the outputs of a data set need not fit into memory
            known |= {name: one.total for name, one in record.statistics().items()}
        return known

    def _run(
        self,
        statistics: Chosen,
        hooks: Mapping[str, Callable[..., None]],
        start: Callable[[], None] = lambda: None,
    ) -> Iterator[Tensor | None]:
        """The output of each batch. start: is called before each."""
        with untouched(self.model) as device, ExitStack() as stack:
            self.model.eval()
            with torch.no_grad():
                for layer in self.layers:
                    if layer.name in statistics:
                        write_statistics(self.modules[layer.name], layer, *statistics[layer.name])
            for name, hook in hooks.items():
                stack.callback(self.modules[name].register_forward_pre_hook(hook).remove)
            for batch in self.batches:
                start()
                with torch.no_grad():
                    found = main_output(called(self.model, batch.inputs, device))
                yield None if found is None else found.detach().cpu()


Calls = list[list[tuple[int, Tensor, Tensor]]]


class _Record:
    """The statistics of each call of some layers, batch by batch."""

    def __init__(self, layers: Sequence[StatisticsLayer]) -> None:
        self._calls: dict[str, Calls] = {layer.name: [] for layer in layers}
        self.hooks = {layer.name: batch_hook(layer, _noting(self._calls[layer.name])) for layer in layers}

    def start(self) -> None:
        """A batch begins."""
        for calls in self._calls.values():
            calls.append([])

    def statistics(self) -> dict[str, LayerStatistics]:
        """Of every layer that a batch reached."""
        return {name: found for name, calls in self._calls.items() if (found := _collected(calls))}


def running_statistics(module: nn.Module, layer: StatisticsLayer) -> tuple[Tensor, Tensor]:
    """The mean and the variance of inputs that a layer has as its running ones, (C,) float64 on the CPU."""
    mean, var = (getattr(module, name).detach().cpu().double() for name in (MEAN, VAR))
    return mean, var - layer.form.added


def _noting(calls: Calls) -> Callable[[int, Tensor, Tensor], None]:
    def note(count: int, mean: Tensor, var: Tensor) -> None:
        calls[-1].append((count, mean.cpu(), var.cpu()))

    return note


def _collected(calls: Sequence[Sequence[tuple[int, Tensor, Tensor]]]) -> LayerStatistics | None:
    """Of each batch, all calls of the layer together; None where no batch reached it."""
    totals = list(_totals(calls))
    if not totals:
        return None
    return LayerStatistics(
        torch.tensor([total.count for total in totals], dtype=torch.float64),
        torch.stack([torch.as_tensor(total.mean) for total in totals]),
        torch.stack([torch.as_tensor(total.var) for total in totals]),
        tuple(tuple(one) for one in calls),
    )


def _totals(calls: Sequence[Sequence[tuple[int, Tensor, Tensor]]]) -> Iterator[Total]:
    for of_batch in calls:
        total = Total()
        for one in of_batch:
            total.add(*one)
        if total.count:
            yield total
