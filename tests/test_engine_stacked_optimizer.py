"""The optimizers of a stack, without torch's bookkeeping: the same bits as torch.optim's own steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from bnbench.engine.stacked_optimizer import fused_step
from bnbench.seeding import generator

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, fused=True),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.1, fused=True),
    "nesterov": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.8, 0.99), eps=1e-6, fused=True),
    "adam maximize": lambda groups: torch.optim.Adam(groups, lr=0.01, maximize=True, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
    # those that the kernels alone do not serve
    "amsgrad": lambda groups: torch.optim.Adam(groups, lr=0.01, amsgrad=True, fused=True),
    "not fused": lambda groups: torch.optim.Adam(groups, lr=0.01),
}


def groups() -> list[dict[str, Any]]:
    """Two groups, one with weight decay, with their gradients."""
    draw = generator(0, "test")
    found: list[dict[str, Any]] = []
    for sizes, decay in (([100, 7], 0.1), ([33], 0.0)):
        parameters = [nn.Parameter(torch.randn(size, generator=draw)) for size in sizes]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        found.append({"params": parameters, "weight_decay": decay})
    return found


def trace(
    make: Callable[[Any], torch.optim.Optimizer], fast: bool, hook: bool = False
) -> tuple[Sequence[torch.Tensor], torch.optim.Optimizer]:
    """The parameters after twelve steps of changing gradients and learning rates."""
    optimizer = make(groups())
    if hook:
        optimizer.register_step_post_hook(lambda *_: None)
    step = fused_step(optimizer) if fast else optimizer.step
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    draw = generator(0, "gradients")
    for index in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (1 + index)
        for parameter in parameters:
            parameter.grad.copy_(torch.randn(parameter.shape, generator=draw))
        with torch.no_grad():
            step()
    return parameters, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_has_the_bits_of_torchs_own(name: str) -> None:
    ours, optimizer = trace(OPTIMIZERS[name], fast=True)
    theirs, _ = trace(OPTIMIZERS[name], fast=False)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
    # torch's own step keeps its state in the optimizer
    assert bool(optimizer.state) == (name in ("amsgrad", "not fused"))


def test_hooks_are_called_by_torchs_own_step() -> None:
    ours, optimizer = trace(OPTIMIZERS["adam"], fast=True, hook=True)
    assert optimizer.state
    for mine, other in zip(ours, trace(OPTIMIZERS["adam"], fast=False)[0], strict=True):
        assert torch.equal(mine, other)
