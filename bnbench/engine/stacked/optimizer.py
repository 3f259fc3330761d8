"""The optimizers that a stack may have, by their fused kernels alone.

`torch.optim.Optimizer.step` looks at every tensor again in every step, which takes as long as its kernel does for
the parameters of a small network. Here that is done once; the kernels, their arguments and so the bits are torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

#: Optimizers that treat every number for itself, so that they may be given many models as one.
ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

Group = dict[str, Any]
#: Of a group: "exp_avg" and so on, as torch calls them, to one tensor a parameter.
State = dict[str, list[Tensor]]


class FusedStep:
    """What does the same as `optimizer.step`, for an optimizer that has made no step yet.

    The groups' learning rates may be set between the steps. Gradients stay where they are now.
    rates: of every group a scalar on the device, where it finds its learning rate; None: it looks into the group.
    state: the moments and counters, to be put back where a step was made only to try. named: the same, of each
    group by torch's names, one a parameter.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rates: Sequence[Tensor] | None = None) -> None:
        kinds = {torch.optim.SGD: _sgd, torch.optim.Adam: _adam, torch.optim.AdamW: _adam}
        self.groups, self.rates = optimizer.param_groups, rates
        self.state: list[Tensor] = []
        self.named: list[State] = []
        self._updates = []
        for group in self.groups:
            update, named = kinds[type(optimizer)](group)
            self._updates.append(update)
            self.named.append(named)
            self.state += [tensor for tensors in named.values() for tensor in tensors]

    def set_rates(self) -> None:
        """Bring the groups' learning rates to where the steps find them."""
        for rate, group in zip(self.rates or (), self.groups, strict=self.rates is not None):
            rate.fill_(group["lr"])

    def __call__(self) -> None:
        """One step of all groups."""
        for index, (update, group) in enumerate(zip(self._updates, self.groups, strict=True)):
            update(lr=group["lr"] if self.rates is None else self.rates[index])


def can_be_fused(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the kernels alone make its step: they know no hooks and none of the rarer options."""
    unusual = ("amsgrad", "differentiable", "capturable", "dampening")
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        _global_optimizer_pre_hooks,
        _global_optimizer_post_hooks,
    )
    return not ("step" in vars(optimizer) or any(hooks)) and all(
        group["fused"] and not any(group.get(name) for name in unusual) for group in optimizer.param_groups
    )


def _adam(group: Group) -> tuple[Callable[..., object], State]:
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

    def step(lr: float | Tensor) -> None:
        torch._foreach_add_(steps, 1)
        update(lr=lr)

    return step, {"exp_avg": first, "exp_avg_sq": second, "step": steps}


def _sgd(group: Group) -> tuple[Callable[..., object], State]:
    """SGD, with or without momentum. A momentum of zeros makes the first step as torch's, which has none yet."""
    parameters = group["params"]
    buffers = [torch.zeros_like(p) for p in parameters] if group["momentum"] else []
    options = {
        name: group[name] for name in ("momentum", "dampening", "nesterov", "weight_decay", "maximize")
    }
    update = partial(
        torch._fused_sgd_, parameters, [p.grad for p in parameters], buffers, is_first_step=False, **options
    )
    return update, {"momentum_buffer": buffers} if buffers else {}
