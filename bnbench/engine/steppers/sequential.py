"""One model, stepped as PyTorch's users do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnbench.engine.build import clipping_of, make_objective, make_optimizer
from bnbench.engine.steppers.base import TorchStepper, autocast, is_reset
from bnbench.optim.clipping import clip_
from bnbench.study import Settings


class Sequential(TorchStepper):
    """Forward, backward and update of a single model: S is 1."""

    engine = "sequential"

    def __init__(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        super().__init__([model], make_optimizer(settings)(model))
        self.model, self.settings, self.device = model, settings, device
        self.objective = make_objective(settings)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.model(inputs)
        return logits

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One update; the objective before it, (1,)."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.settings, self.device):
            loss = self.objective(self.forward(inputs[0]), targets[0])
        loss.backward()  # type: ignore[no-untyped-call]
        self.update()
        return loss.detach().unsqueeze(0)

    def update(self) -> None:
        """Clip the gradients that the parameters have now, and let the optimizer step with them."""
        clip_(self.model, clipping_of(self.settings))
        self.move()

    def move(self) -> None:
        """Let the optimizer step."""
        self.optimizer.step()

    def kept(self, index: int) -> dict[str, Any]:
        """The network, its optimizer and the objective themselves."""
        kept = {"model": self.model, "optimizer": self.optimizer, "objective": self.objective}
        return {**kept, "notes": self.notes}

    def keeps_grad(self, parameter: Tensor) -> bool:
        """Where the optimizer leaves a parameter out, its gradients add up, and clipping sees them."""
        return not is_reset(parameter, self.optimizer)
