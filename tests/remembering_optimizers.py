"""Optimizers, schedules and losses of users that remember something from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Lookahead(torch.optim.Optimizer):
    """SGD whose weights are drawn to slow ones in every third step; it keeps them in lists, not in its state."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.steps = 0
        self.slow = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.steps += 1
        for group, slow in zip(self.param_groups, self.slow, strict=True):
            for parameter, kept in zip(group["params"], slow, strict=True):
                self.state[parameter]["last"] = parameter.grad.clone()
                parameter.add_(parameter.grad, alpha=-group["lr"])
                if self.steps % 3 == 0:
                    kept.lerp_(parameter, 0.5)
                    parameter.copy_(kept)


class _Gathers(torch.optim.SGD):
    """Gradients of two steps add up, as its zero_grad does nothing in every other one."""

    calls = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.calls += 1
        if self.calls % 2:
            super().zero_grad(set_to_none)


def lookahead(model: nn.Module, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """See `_Lookahead`."""
    return _Lookahead(model.parameters(), lr)


def gathers(model: nn.Module, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """See `_Gathers`."""
    return _Gathers(model.parameters(), lr=lr, momentum=0.5)


def hooked(model: nn.Module, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """A hook before each step, with a counter around it."""
    optimizer, number = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9), [0]

    def hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        number[0] += 1
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(1 / number[0])

    optimizer.register_step_pre_hook(hook)
    return optimizer


def foreach(model: nn.Module, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """Torch's own, another of its ways; the largest second moment is kept, too."""
    return torch.optim.Adam(model.parameters(), lr=lr, foreach=True, amsgrad=True)


def plain(model: nn.Module, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """Torch's own, parameter by parameter; its momentum is not there before the first step."""
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, foreach=False)


def of_half(model: nn.Module, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """It leaves parameters out."""
    return torch.optim.RMSprop(list(model.parameters())[::2], lr=lr / 10)


def averaged(model: nn.Module, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """Torch's ASGD, whose state holds tensors that rates are computed from."""
    return torch.optim.ASGD(model.parameters(), lr=lr)


OPTIMIZERS = [lookahead, gathers, hooked, foreach, plain, of_half, averaged]


def counting(total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """A schedule that counts its own calls."""
    calls = 0

    def factor(step: int) -> float:
        nonlocal calls
        calls += 1
        return float(1 / calls)

    return factor


SCHEDULES = [counting]


class _Moving(nn.Module):
    """Cross-entropy divided by its moving average."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.ones(()))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(logits, labels)
        self.average: Tensor = 0.9 * self.average + 0.1 * loss.detach()
        return loss / self.average


def moving() -> nn.Module:
    """See `_Moving`."""
    return _Moving()


LOSSES = [moving]
