"""The interface of every way to make one optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.engine.build import layer_list
from bnbench.engine.state.kinds import Unkeepable
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

    def agreed(self, reason: str) -> str:
        """Why runs pause now, "" where they go on. reason: this process's own; those of one run agree on it."""
        return reason

    def scale_rates(self, factor: float) -> None:
        """Set every learning rate to `factor` times the one in the settings."""
        raise NotImplementedError

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Inputs (S, N, ...), targets (S, N, ...): one update; the objectives before it, (S,)."""
        raise NotImplementedError

    def cautions(self, model: nn.Module) -> Sequence[str]:
        """What its steps say that limits the answer on one of the models, at the end of its run."""
        return ()

    def kept(self, index: int) -> dict[str, Any]:
        """What the next steps of one replica depend on: living objects, or copies in plain data and tensors.

        A state describes it and later fills it, in place where it can (see `bnbench.engine.state.write`). Raises
        Unkeepable where nothing can.
        """
        raise Unkeepable(f"engine {self.engine} keeps no states")

    def keeps_grad(self, parameter: Tensor) -> bool:
        """Whether the gradient that a parameter has now outlives the next step, so that a state has to hold it."""
        return False

    def put_back(self, index: int, kept: dict[str, Any]) -> None:
        """Take over what `kept` gave and a state has filled, where it was copies."""

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


def is_reset(parameter: Tensor, optimizer: torch.optim.Optimizer) -> bool:
    """Whether torch's own zero_grad of the optimizer drops the gradient of this parameter."""
    own = "zero_grad" in vars(optimizer) or type(optimizer).zero_grad is not torch.optim.Optimizer.zero_grad
    return not own and any(parameter is each for group in optimizer.param_groups for each in group["params"])
