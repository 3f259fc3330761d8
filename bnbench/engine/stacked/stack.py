"""Replicas: several models of one shape that train as one, every operation done once for all of them.

The parameters of S models lie side by side in one tensor for each group of the optimizer, and the
models' own parameters are views into it: a step moves all of them, and each can be evaluated,
saved and put back as if it were alone.

**A replica's numbers do not depend on its neighbours** (on a CPU, with one thread, from two replicas
on): kernels treat the last few numbers of a row differently from the rest, so every replica
starts at a multiple of `LANES` numbers, and what is done to it is the same wherever it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.stacked import Parameters
from bnbench.engine.stacked.chain import chain, stacked_layers
from bnbench.engine.stacked.objective import knows_objective, stacked_objective
from bnbench.engine.stacked.optimizer import FusedStep, can_be_fused
from bnbench.optim.clipping import Clipping, clip_stack_


class Stack:
    """One optimizer step for S models at once.

    models: alike, in training mode, on one device. make_optimizer: makes the optimizer of a single
    model (one of ELEMENTWISE); it is handed the stack's tensors then, with the groups as they are.
    objective: of a single model: (N, classes) logits and (N,) targets to a scalar. rates_on_device: the
    learning rates are read from the device, where `set_rates` puts them, as a CUDA graph wants it.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        objective: Callable[[Tensor, Tensor], Tensor],
        clipping: Clipping | None = None,
        rates_on_device: bool = False,
    ) -> None:
        self.models, self.clipping = models, clipping or Clipping()
        self.optimizer = make_optimizer(models[0])
        groups = [group["params"] for group in self.optimizer.param_groups]
        frozen = [parameter for parameter in models[0].parameters() if not parameter.requires_grad]
        self.parameters = Parameters(models, [*groups, frozen] if frozen else groups)
        trained = self.parameters.flats[
            : len(groups)
        ]  # what is frozen lies behind, where no optimizer sees it
        for group, flat in zip(self.optimizer.param_groups, trained, strict=True):
            group["params"] = [flat]
        device = self.parameters.flats[0].device
        rates = [torch.zeros((), device=device) for _ in groups] if rates_on_device else None
        self.fused = FusedStep(self.optimizer, rates) if can_be_fused(self.optimizer) else None
        self.layers = stacked_layers(models, self.parameters)
        # no gradient is wanted before the first layer that learns
        learns = [any(p.requires_grad for p in layer.parameters()) for layer in chain(models[0])]
        self._first = learns.index(True)
        self.objective, self.knows_objective = stacked_objective(objective), knows_objective(objective)

    @torch.no_grad()
    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Inputs (S, N, ...), targets (S, N, ...): an update; each model's objective before it, (S,)."""
        losses = self.gradients(inputs, targets)
        clip_stack_(self.parameters, self.clipping)
        (self.fused or self.optimizer.step)()
        return losses

    def set_rates(self) -> None:
        """Bring the learning rates to the device."""
        if self.fused:
            self.fused.set_rates()

    def state(self) -> list[Tensor]:
        """Every tensor that a step changes and the next one needs. Only of a stack that is fused."""
        assert self.fused is not None
        flats = [flat.detach() for flat in self.parameters.flats]
        return [*flats, *self.parameters.buffers, *self.fused.state]

    def optimizer_state(self, group: int) -> dict[str, Any]:
        """The optimizer's moments and counters of a group by torch's names; moments are laid out as its flat is."""
        if self.fused is not None:
            return {name: tensor for name, (tensor,) in self.fused.named[group].items()}
        return dict(self.optimizer.state[self.parameters.flats[group]])

    @torch.no_grad()
    def gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Forward and backward: fills the gradients; each model's objective, (S,)."""
        x = inputs
        for layer in self.layers:
            x = layer.forward(x)
        losses, grad = self.objective(x, targets)
        for index in reversed(range(self._first, len(self.layers))):
            grad = self.layers[index].backward(grad, needed=index > self._first)
        return losses
