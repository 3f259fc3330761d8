"""Ways of inference with one trained network: other statistics in place of the running ones, without training again.

    precise            the mean and variance of N training samples, each batch normalized by its own statistics on the way
                       (Wu & Johnson 2021, arXiv 2105.07576, section 3). The variance is the total one: the mean of the
                       batches' variances, plus the variance of their means, each batch with the weight of its samples
    batch              the mean and variance of the test batch (Schneider et al. 2020, arXiv 2006.16971, with no sample of
                       the training statistics)
    example_weighted   mean_i = a E[x_i] + (1 - a) mean, E[x²]_i likewise, var_i = E[x²]_i - mean_i² for each example i
                       (Summers & Dinneen 2020, arXiv 1906.03548, inference example weighing)

E[x_i] is the mean over the positions of an example; inputs without positions are their own mean. Statistics are summed in
float64. Whatever happens, the network, its flags, its statistics and the random streams are left as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.data.prepared import Prepared
from bnbench.engine.evaluate import Measured, evaluate, largest_batch
from bnbench.network.statistics import StatisticsLayer
from bnbench.norms.behaviour import ModuleState
from bnbench.norms.inference_form import MEAN, VAR
from bnbench.study.evaluation import RUNNING, Inference


@dataclass
class Total:
    """Mean and sum of squared deviations, (C,) float64, of all values so far (Chan, Golub & LeVeque 1983)."""

    count: int = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, count: int, mean: Tensor, var: Tensor) -> None:
        """A batch of `count` values a channel, with its mean and its variance (divided by count)."""
        whole = self.count + count
        step = mean - self.mean
        self.squares = self.squares + var * count + step**2 * (self.count * count / whole)
        self.mean = self.mean + step * (count / whole)
        self.count = whole

    @property
    def var(self) -> Tensor | float:
        """Of all values, divided by their number."""
        return self.squares / self.count


class Ways:
    """The further ways of inference of a study, for networks with these layers."""

    def __init__(
        self,
        ways: Sequence[Inference],
        layers: Sequence[StatisticsLayer],
        data: Prepared,
        batch_size: int,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """batch_size: of training, which the precise statistics take where they name none."""
        self.ways = [way for way in ways if way != RUNNING] if layers else []
        self.layers, self.data, self.batch_size, self.autocast = layers, data, batch_size, autocast

    def measured(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """By way of inference: every metric of the network on every part."""
        parts = ("train", "val", "test", *self.data.test_sets)
        results = {}
        for way in self.ways:
            with inferring(model, way, self.layers, self._precise):
                size = way.size if way.name == "batch" else None
                with self.autocast():
                    results[way.name] = dict(evaluate(model, self.data, parts, size))
        return results

    def _precise(self, model: nn.Module, way: Inference) -> Iterator[Tensor]:
        """Batches of training samples without augmentation, near-equal parts of a fixed draw."""
        count = len(self.data.train_targets)
        index = torch.randperm(count, generator=generator(0, "precise statistics"))[: way.samples]
        size = min(way.size or self.batch_size, largest_batch(self.data.train_inputs))
        for part in index.tensor_split(math.ceil(len(index) / max(2, size))):
            with self.autocast():
                model(self.data.train_batch(part.to(self.data.train_inputs.device)))
            yield part


@contextmanager
def inferring(
    model: nn.Module,
    way: Inference,
    layers: Sequence[StatisticsLayer],
    passes: Callable[[nn.Module, Inference], Iterator[Any]],
) -> Iterator[None]:
    """Inside, the network infers in that way, in eval mode; it is left as it was. passes: makes those of `precise`."""
    modules = [(model.get_submodule(layer.name), layer) for layer in layers]
    device = getattr(modules[0][0], MEAN).device
    flags = [(inner, inner.training) for inner in model.modules()]
    with ExitStack() as stack:
        stack.enter_context(left_as_found(device))
        stack.callback(_restore_flags, flags)
        for module, _ in modules:
            stack.callback(ModuleState(module).restore)
        model.eval()
        if way.name == "precise":
            _make_precise(model, way, modules, passes)
        for module, layer in modules if way.name != "precise" else ():
            hook = _batch_hook(layer) if way.name == "batch" else _example_hook(module, layer, way.alpha or 0.0)
            stack.callback(module.register_forward_pre_hook(hook).remove)
        yield


def _restore_flags(flags: Sequence[tuple[nn.Module, bool]]) -> None:
    for module, training in flags:
        module.training = training


def _make_precise(
    model: nn.Module,
    way: Inference,
    modules: Sequence[tuple[nn.Module, StatisticsLayer]],
    passes: Callable[[nn.Module, Inference], Iterator[Any]],
) -> None:
    totals: Mapping[str, Total] = {layer.name: Total() for _, layer in modules}
    with ExitStack() as stack, torch.inference_mode():
        for module, layer in modules:
            hook = _batch_hook(layer, totals[layer.name])
            stack.callback(module.register_forward_pre_hook(hook).remove)
        for _ in passes(model, way):
            pass
        for module, layer in modules:
            total = totals[layer.name]
            if total.count:
                _write(module, layer, total.mean, total.var)


def _write(module: nn.Module, layer: StatisticsLayer, mean: Tensor | float, var: Tensor | float) -> None:
    getattr(module, MEAN).copy_(torch.as_tensor(mean))
    getattr(module, VAR).copy_(torch.as_tensor(var + layer.form.added))


def _batch_hook(layer: StatisticsLayer, total: Total | None = None) -> Callable[..., None]:
    """Before the layer infers: the statistics of its inputs take the place of the running ones. total: adds them up."""

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        values = _double(arguments[0])
        axes = [axis for axis in range(values.ndim) if axis != 1]
        mean = values.mean(axes)
        var = (values - _column(mean, values)).square().mean(axes)
        if total is not None:
            total.add(values.numel() // values.shape[1], mean, var)
        _write(module, layer, mean, var)

    return hook


def _example_hook(module: nn.Module, layer: StatisticsLayer, alpha: float) -> Callable[..., tuple[Any, ...]]:
    """Standardizes each example by its own mixed statistics, for a layer whose running ones are 0 and 1."""
    mean, var = (_double(getattr(module, name)).clone() for name in (MEAN, VAR))
    eps = layer.form.eps or 0.0
    getattr(module, MEAN).zero_()
    getattr(module, VAR).fill_(1.0)

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        values = _double(arguments[0])
        positions = list(range(2, values.ndim))
        own = values.mean(positions, keepdim=True) if positions else values
        spread = (values - own).square().mean(positions, keepdim=True) if positions else values - own
        apart = own - _column(mean, values)
        center = _column(mean, values) + alpha * apart
        # E[x²]_i - mean_i², written so that nothing cancels
        mixed = alpha * (spread + layer.form.added) + (1 - alpha) * _column(var, values)
        mixed = mixed + alpha * (1 - alpha) * apart.square()
        standard = (values - center) / (mixed + eps).sqrt() * math.sqrt(1 + eps)
        return (standard.to(arguments[0].device, arguments[0].dtype), *arguments[1:])

    return hook


def _double(values: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    values = values.detach()
    return (values.cpu() if values.device.type == "mps" else values).double()


def _column(vector: Tensor, values: Tensor) -> Tensor:
    return vector.reshape(1, -1, *[1] * (values.ndim - 2))


__all__ = ["Measured", "Total", "Ways", "inferring"]
