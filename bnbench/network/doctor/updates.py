"""How often one training step moves running statistics, beside how often the network calls the layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.network.doctor.data import DataBatch
from bnbench.network.doctor.passes import training_flags
from bnbench.network.doctor.untouched import called, main_output, untouched
from bnbench.network.statistics import StatisticsLayer
from bnbench.norms.inference_form import MEAN, VAR


@dataclass
class Updates:
    """Of one layer in a training step.

    calls: in the forward pass. repeated: of these, calls whose input an earlier call had, too. backward: whether the
    backward pass moves the statistics again. counted: what `num_batches_tracked` grew by, None without one.
    """

    calls: int = 0
    repeated: int = 0
    backward: bool = False
    recalls: int = 0
    counted: int | None = None
    seen: list[Tensor] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """Updates by one batch of data."""
        return self.calls + self.recalls if self.counted is None else self.counted


def training_step(
    model: nn.Module, batch: DataBatch, layers: Sequence[StatisticsLayer]
) -> dict[str, Updates]:
    """Run a forward and a backward pass in training mode, and watch the layers. Leaves the model as it was."""
    found = {layer.name: Updates() for layer in layers}
    with untouched(model) as device, ExitStack() as stack, torch.enable_grad():
        training_flags(model)
        forward = [True]
        for name, updates in found.items():
            hook = _watch(updates, forward)
            stack.callback(model.get_submodule(name).register_forward_pre_hook(hook).remove)
        before = {name: _counter(model.get_submodule(name)) for name in found}
        output = main_output(called(model, batch.inputs, device))
        forward[0] = False
        after = {name: _statistics(model.get_submodule(name)) for name in found}
        if output is not None and output.requires_grad:
            output.float().square().mean().backward()  # type: ignore[no-untyped-call]
        for name, updates in found.items():
            module = model.get_submodule(name)
            pairs = zip(after[name], _statistics(module), strict=True)
            updates.backward = any(not torch.equal(one, other) for one, other in pairs)
            start, end = before[name], _counter(module)
            updates.counted = None if start is None or end is None else end - start
            updates.seen.clear()
    return found


def _watch(updates: Updates, forward: list[bool]) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if not forward[0]:
            updates.recalls += 1
            return
        updates.calls += 1
        x = arguments[0].detach() if arguments and isinstance(arguments[0], Tensor) else None
        if x is None:
            return
        updates.repeated += any(x.shape == y.shape and torch.equal(x, y) for y in updates.seen)
        updates.seen.append(x.clone())

    return hook


def _counter(module: nn.Module) -> int | None:
    counter = getattr(module, "num_batches_tracked", None)
    return int(counter) if isinstance(counter, Tensor) and counter.numel() == 1 else None


def _statistics(module: nn.Module) -> list[Tensor]:
    return [getattr(module, name).detach().clone() for name in (MEAN, VAR)]
