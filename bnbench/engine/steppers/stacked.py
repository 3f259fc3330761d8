"""The replicas of a variant as one stack."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bnbench.engine.build import clipping_of, make_objective, make_optimizer
from bnbench.engine.stacked.stack import Stack
from bnbench.engine.steppers.base import TorchStepper
from bnbench.study import Settings


class Stacked(TorchStepper):
    """One update of all replicas at once."""

    engine = "stacked"

    def __init__(
        self, models: Sequence[nn.Module], settings: Settings, rates_on_device: bool = False
    ) -> None:
        self.stack = Stack(
            models, make_optimizer(settings), make_objective(settings), clipping_of(settings), rates_on_device
        )
        super().__init__(models, self.stack.optimizer)
        self.settings = settings

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One update; each replica's objective before it, (S,)."""
        self.stack.set_rates()
        return self.stack.step(inputs, targets)
