"""The inside of networks that a test builds by hand, so that a closed form or autograd in float64 can be the oracle."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.probes.inside import Inside, Layer, Private, Row

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """Each linear layer with the batch norm right behind it, if one stands there."""
    modules = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    found: list[Layer] = []
    for place, (name, module) in enumerate(modules):
        if isinstance(module, nn.Linear):
            after = modules[place + 1][1] if place + 1 < len(modules) else None
            norm = after if isinstance(after, nn.BatchNorm1d) else None
            found.append(Layer(name, name, len(found) + 1, module, norm))
    return tuple(found)


def inside_of(
    model: nn.Module,
    objective: Callable[[Tensor, Tensor], Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    make_optimizer: MakeOptimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    lr: float = 0.1,
    layers: tuple[Layer, ...] = (),
) -> Inside:
    """The inside of `model` with a fresh optimizer. batches: the probe batch and the other one."""

    def private() -> Private:
        twin = copy.deepcopy(model)
        optimizer = make_optimizer(twin.parameters())
        return Private(
            twin, optimizer, layers_of(twin), lambda x, y: objective(twin(x), y), lambda: optimizer.step()
        )

    (inputs, targets), (others, other_targets) = batches
    settings: Any = SimpleNamespace(batch_size=len(inputs))
    return Inside(
        model,
        layers or layers_of(model),
        inputs,
        targets,
        others,
        other_targets,
        objective,
        loss=lambda x, y: objective(model(x), y),
        settings=settings,
        step=0,
        planned=1,
        detailed=True,
        lr=lr,
        private=private,
    )


def values(rows: Iterable[Row]) -> dict[tuple[str, str], float]:
    """Rows by layer and quantity; a unit stands behind the quantity: "loss_along 0.5"."""
    return {
        (row.layer, row.quantity + ("" if row.unit is None else f" {row.unit}")): row.value for row in rows
    }
