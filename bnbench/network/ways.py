"""A network that infers with other statistics than its running ones: precise ones, those of each batch or example.

    precise            mean and variance of N training samples; on the way, each batch is normalized by its own
                       statistics (Wu & Johnson 2021, arXiv 2105.07576, section 3). The variance is the total one: the
                       mean of the batches' variances and the variance of their means, weighted by the batches' samples
    batch              mean and variance of the test batch (Schneider et al. 2020, arXiv 2006.16971, with no weight on
                       the training statistics)
    example_weighted   mean_i = a E[x]_i + (1 - a) mean, E[x²]_i likewise, var_i = E[x²]_i - mean_i² for each example i
                       (Summers & Dinneen 2020, arXiv 1906.03548, inference example weighing)

E[x]_i is the mean over the positions of an example, of a sequence of tokens too; inputs without positions are their own
mean. A layer that takes a mask has the statistics of valid positions. Statistics are summed in float64.
Whatever happens, the network, its flags, its statistics and the random streams are left as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.network.statistics import StatisticsLayer
from bnbench.norms.behaviour import ModuleState
from bnbench.norms.inference_form import MEAN, VAR
from bnbench.norms.masked import valid_positions
from bnbench.norms.tokens import TokenNorm
from bnbench.study.evaluation import Inference

#: Hears the statistics of a call: how many values a channel, their mean and their variance (divided by the count).
Note = Callable[[int, Tensor, Tensor], None]


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
        stack.callback(restore_flags, flags)
        for module, _ in modules:
            stack.callback(ModuleState(module).restore)
        model.eval()
        if way.name == "precise":
            _make_precise(model, way, modules, passes)
        for module, layer in modules if way.name != "precise" else ():
            if way.name == "batch":
                stack.callback(module.register_forward_pre_hook(batch_hook(layer)).remove)
                continue
            examples = _example_hook(module, layer, way.alpha or 0.0)
            over = model.get_submodule(layer.name.rpartition(".")[0])
            if isinstance(over, TokenNorm) and not over.whole_sequences:
                stack.callback(over.register_forward_pre_hook(_sequence_hook(over, examples)).remove)
            else:
                stack.callback(module.register_forward_pre_hook(examples).remove)
        yield


def restore_flags(flags: Sequence[tuple[nn.Module, bool]]) -> None:
    """Put back the training flag of every module."""
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
            hook = batch_hook(layer, totals[layer.name].add)
            stack.callback(module.register_forward_pre_hook(hook).remove)
        for _ in passes(model, way):
            pass
        for module, layer in modules:
            total = totals[layer.name]
            if total.count:
                write_statistics(module, layer, total.mean, total.var)


def write_statistics(
    module: nn.Module, layer: StatisticsLayer, mean: Tensor | float, var: Tensor | float
) -> None:
    """Give the layer this mean and this variance of inputs, (C,), as its running ones."""
    getattr(module, MEAN).copy_(torch.as_tensor(mean))
    getattr(module, VAR).copy_(torch.as_tensor(var + layer.form.added))


def batch_hook(layer: StatisticsLayer, note: Note | None = None) -> Callable[..., None]:
    """Before the layer infers: the statistics of its inputs take the place of the running ones. note: hears them."""

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        count, mean, var = input_statistics(arguments)
        if not count:
            return
        if note is not None:
            note(count, mean, var)
        write_statistics(module, layer, mean, var)

    return hook


def input_statistics(arguments: tuple[Any, ...]) -> tuple[int, Tensor, Tensor]:
    """Values a channel, their mean and variance (C,) float64, of the input (N, C, ...) of a call, without padding.

    arguments: of the call; a second one is the mask of valid positions.
    """
    values = _double(arguments[0])
    mask = arguments[1] if len(arguments) > 1 else None
    if mask is None:
        axes = [axis for axis in range(values.ndim) if axis != 1]
        mean = values.mean(axes)
        return values.numel() // values.shape[1], mean, (values - _column(mean, values)).square().mean(axes)
    valid = valid_positions(values, mask.to(values.device))
    mean = valid.mean(valid.only(values)).flatten()
    var = valid.mean(valid.only(values - _column(mean, values)).square()).flatten()
    return int(valid.count), mean, var


def _sequence_hook(over: TokenNorm, examples: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    """`_example_hook` for tokens (N, T, C): an example is a sequence, without padding where the layer takes a mask."""

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = arguments
        mask = rest[0] if rest and over.takes_mask else None
        (standard,) = examples(module, (x.transpose(1, 2),), mask)
        return (standard.transpose(1, 2), *rest)

    return hook


def _example_hook(module: nn.Module, layer: StatisticsLayer, alpha: float) -> Callable[..., tuple[Any, ...]]:
    """Standardizes each example by its own mixed statistics, for a layer whose running ones are 0 and 1."""
    mean, var = (_double(getattr(module, name)).clone() for name in (MEAN, VAR))
    eps = layer.form.eps or 0.0
    getattr(module, MEAN).zero_()
    getattr(module, VAR).fill_(1.0)

    def hook(module: nn.Module, arguments: tuple[Any, ...], mask: Tensor | None = None) -> tuple[Any, ...]:
        values = _double(arguments[0])
        own, spread = _of_examples(values, mask)
        apart = own - _column(mean, values)
        center = _column(mean, values) + alpha * apart
        # E[x²]_i - mean_i², written so that nothing cancels
        mixed = alpha * (spread + layer.form.added) + (1 - alpha) * _column(var, values)
        mixed = mixed + alpha * (1 - alpha) * apart.square()
        standard = (values - center) / (mixed + eps).sqrt() * math.sqrt(1 + eps)
        return (standard.to(arguments[0].device, arguments[0].dtype), *arguments[1:])

    return hook


def _of_examples(values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variance of each example over its positions. mask: (N, T), of (N, C, T), True where valid."""
    positions = list(range(2, values.ndim))
    if not positions:
        return values, values - values
    if mask is None:
        own = values.mean(positions, keepdim=True)
        return own, (values - own).square().mean(positions, keepdim=True)
    keep = mask.to(values.device)[:, None]
    count = keep.sum(2, keepdim=True).clamp(min=1)
    own = torch.where(keep, values, 0).sum(2, keepdim=True) / count
    return own, torch.where(keep, values - own, 0).square().sum(2, keepdim=True) / count


def _double(values: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    values = values.detach()
    return (values.cpu() if values.device.type == "mps" else values).double()


def _column(vector: Tensor, values: Tensor) -> Tensor:
    return vector.reshape(1, -1, *[1] * (values.ndim - 2))
