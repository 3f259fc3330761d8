"""The replicas of a variant as one stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from bnbench.engine.build import clipping_of, make_objective, make_optimizer
from bnbench.engine.stacked.shares import put_share, share_of
from bnbench.engine.stacked.stack import Stack
from bnbench.engine.state.kinds import Unchanged
from bnbench.engine.steppers.base import TorchStepper
from bnbench.study import Settings


class Stacked(TorchStepper):
    """One update of all replicas at once."""

    engine = "stacked"

    def __init__(
        self, models: Sequence[nn.Module], settings: Settings, rates_on_device: bool = False
    ) -> None:
        self._objective = make_objective(settings)
        self.stack = Stack(
            models, make_optimizer(settings), self._objective, clipping_of(settings), rates_on_device
        )
        super().__init__(models, self.stack.optimizer)
        self.settings = settings
        self._counts = [
            [name for name, value in vars(layer).items() if type(value) in (int, float)]
            for layer in self.stack.layers
        ]

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One update; each replica's objective before it, (S,)."""
        self.stack.set_rates()
        return self.stack.step(inputs, targets)

    def kept(self, index: int) -> dict[str, Any]:
        """One network, and its share of what the optimizer keeps. What all share has to stay as it is."""
        optimizer = self.stack.optimizer
        own = {
            name: value for name, value in vars(optimizer).items() if name not in ("state", "param_groups")
        }
        groups = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in optimizer.param_groups
        ]
        return {
            "model": self.stack.models[index],
            "optimizer": share_of(self.stack, index),
            "shared": Unchanged([self._objective, own, groups, self._counted()]),
            "notes": self.notes,
        }

    def _counted(self) -> list[dict[str, Any]]:
        """Numbers of the stacked forms: one that counts for itself, not in a buffer, can't go on."""
        layers = zip(self.stack.layers, self._counts, strict=True)
        return [{name: getattr(layer, name, None) for name in names} for layer, names in layers]

    def put_back(self, index: int, kept: dict[str, Any]) -> None:
        """Its share of what the optimizer keeps."""
        put_share(self.stack, index, kept["optimizer"])
