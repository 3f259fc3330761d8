"""The optimizers of a stack, without torch's bookkeeping: the same bits as torch.optim's own steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from bnbench.base.seeding import generator
from bnbench.engine.stacked.optimizer import FusedStep, can_be_fused

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, fused=True),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True),
    "nesterov": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.8, 0.99), eps=1e-6, fused=True),
    "adam maximize": lambda groups: torch.optim.Adam(groups, lr=0.01, maximize=True, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
}
#: Those that the kernels alone do not serve.
OTHERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "dampening": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.1, fused=True),
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


def trace(optimizer: torch.optim.Optimizer, step: Callable[[], object]) -> Iterator[list[torch.Tensor]]:
    """The parameters after each of twelve steps of changing gradients; learning rates change, too."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    draw = generator(0, "gradients")
    for index in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (1 + index)
        for parameter in parameters:
            parameter.grad.copy_(torch.randn(parameter.shape, generator=draw))
        with torch.no_grad():
            step()
        yield [parameter.detach().clone() for parameter in parameters]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("on_device", [False, True])
def test_a_step_has_the_bits_of_torchs_own(name: str, on_device: bool) -> None:
    ours, theirs = OPTIMIZERS[name](groups()), OPTIMIZERS[name](groups())
    assert can_be_fused(ours)
    rates = [torch.zeros(()) for _ in ours.param_groups] if on_device else None
    fused = FusedStep(ours, rates)

    def step() -> None:
        fused.set_rates()
        fused()

    # a rate on the device is a float32; as a number it is a double
    tolerance = 1e-6 if on_device else 0.0
    for mine, other in zip(trace(ours, step), trace(theirs, theirs.step), strict=True):
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    assert not ours.state  # it is the step's own


def test_the_state_put_back_gives_the_same_steps_again() -> None:
    optimizer = OPTIMIZERS["adam"](groups())
    fused = FusedStep(optimizer)
    parameters = [parameter.detach() for group in optimizer.param_groups for parameter in group["params"]]
    tensors = [*parameters, *fused.state]
    before = [tensor.clone() for tensor in tensors]
    first = list(trace(optimizer, fused))
    for tensor, value in zip(tensors, before, strict=True):
        tensor.copy_(value)
    for mine, other in zip(first, trace(optimizer, fused), strict=True):
        assert all(map(torch.equal, mine, other))


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_kernels_do_not_serve_is_left_to_torch(name: str) -> None:
    assert not can_be_fused(OTHERS[name](groups()))


def test_an_optimizer_with_hooks_is_left_to_torch() -> None:
    optimizer = OPTIMIZERS["adam"](groups())
    optimizer.register_step_post_hook(lambda *_: None)
    assert not can_be_fused(optimizer)


def test_a_hook_on_every_optimizer_is_called_by_torch() -> None:
    optimizer = OPTIMIZERS["adam"](groups())
    handle = register_optimizer_step_post_hook(lambda *_: None)
    try:
        assert not can_be_fused(optimizer)
    finally:
        handle.remove()
    assert can_be_fused(optimizer)
