"""The interface of every way to make one optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from bnbench.engine.build import layer_list
from bnbench.study import Settings


def autocast(settings: Settings, device: torch.device) -> AbstractContextManager[object]:
    """Inside, the network computes in the study's precision."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class Stepper:
    """Steps S models of one architecture.

    engine: its name. models: what is evaluated and saved, one a replica. notes: what the user should know.
    """

    engine: str

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models, self.notes = list(models), list[str]()

    def prepare(self, inputs: Tensor, targets: Tensor) -> None:
        """Before the clock starts: whatever has to be done once. Leaves the models as they are."""

    def scale_rates(self, factor: float) -> None:
        """Set every learning rate to `factor` times the one in the settings."""
        raise NotImplementedError

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Inputs (S, N, ...), targets (S, N, ...): one update; the objectives before it, (S,)."""
        raise NotImplementedError

    def cautions(self, model: nn.Module) -> Sequence[str]:
        """What its steps say that limits the answer on one of the models, at the end of its run."""
        return ()

    def layers(self, model: nn.Module) -> tuple[str, ...]:
        """One line for each layer of one of the models."""
        return layer_list(model)


class TorchStepper(Stepper):
    """A stepper whose learning rates are those of a torch optimizer."""

    def __init__(self, models: Sequence[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        super().__init__(models)
        self.optimizer = optimizer
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def scale_rates(self, factor: float) -> None:
        """Every group keeps its own rate, times the factor."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
