"""The optimizers that a stack may have, by their fused kernels alone.

`torch.optim.Optimizer.step` looks at every tensor anew in every step, which takes as long as its kernel does for
the parameters of a small network. Here that is done once; the kernels, their arguments and so the bits are torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

#: Optimizers that treat every number for itself, so that they may be given many models as one.
ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

Group = dict[str, Any]


def fused_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """What does the same as `optimizer.step`, from an optimizer that has made no step yet.

    The groups' learning rates may be set between the steps. Gradients stay where they are now.
    """
    kinds = {torch.optim.SGD: _sgd, torch.optim.Adam: _adam, torch.optim.AdamW: _adam}
    if not all(map(_is_usual, optimizer.param_groups)) or _has_hooks(optimizer):
        return optimizer.step
    updates = [kinds[type(optimizer)](group) for group in optimizer.param_groups]

    def step() -> None:
        for update in updates:
            update()

    return step


def _is_usual(group: Group) -> bool:
    """Whether the kernels below serve this group."""
    unusual = ("amsgrad", "differentiable", "capturable")
    return bool(group["fused"]) and not any(group.get(name) for name in unusual)


def _has_hooks(optimizer: torch.optim.Optimizer) -> bool:
    return bool(
        "step" in vars(optimizer)
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
    )


def _adam(group: Group) -> Callable[[], None]:
    """Adam, and AdamW, whose decay is decoupled."""
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    parameters = group["params"]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    steps = [torch.zeros((), device=p.device) for p in parameters]
    beta1, beta2 = group["betas"]
    update = partial(
        kernel, parameters, [p.grad for p in parameters], first, second, [], steps, amsgrad=False,
        beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
        maximize=group["maximize"],
    )  # fmt: skip

    def step() -> None:
        torch._foreach_add_(steps, 1)
        update(lr=group["lr"])

    return step


def _sgd(group: Group) -> Callable[[], None]:
    """SGD, with or without momentum."""
    parameters = group["params"]
    buffers = [torch.empty_like(p) for p in parameters] if group["momentum"] else []
    options = {
        name: group[name] for name in ("momentum", "dampening", "nesterov", "weight_decay", "maximize")
    }
    update = partial(torch._fused_sgd_, parameters, [p.grad for p in parameters], buffers, **options)
    is_first = bool(buffers)

    def step() -> None:
        nonlocal is_first
        update(lr=group["lr"], is_first_step=is_first)
        is_first = False

    return step
