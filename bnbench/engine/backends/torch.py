"""PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bnbench.data import Sizes
from bnbench.engine.build import two_networks
from bnbench.engine.choose import EngineChoice, choose
from bnbench.engine.device import environment
from bnbench.engine.ranks.group import current
from bnbench.engine.ranks.stepper import Ranked
from bnbench.engine.steppers.adversarial import Adversarial, check_networks
from bnbench.engine.steppers.base import Stepper
from bnbench.engine.steppers.compiled import Compiled
from bnbench.engine.steppers.graphed import Graphed
from bnbench.engine.steppers.sequential import Sequential
from bnbench.engine.steppers.stacked import Stacked
from bnbench.study import Settings
from bnbench.study.plan import RunSpec


class TorchBackend:
    """See `Backend`."""

    def check(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        """Raises BnbenchError where a task trains two networks, and these are not; any other network can be trained."""
        if two_networks(settings):
            check_networks(model, settings)

    def choose(
        self, model: nn.Module, settings: Settings, sizes: Sizes, device: torch.device
    ) -> EngineChoice:
        """A stack where that is faster and changes nothing, else one run after the other."""
        return choose(model, settings, sizes, device)

    def stepper(
        self,
        models: Sequence[nn.Module],
        settings: Settings,
        sizes: Sizes,
        choice: EngineChoice,
        device: torch.device,
    ) -> Stepper:
        """The engine of the choice; two networks have a stepper of their own."""
        if two_networks(settings):
            return Adversarial(models[0], settings, device)
        if (group := current()) is not None:
            return Ranked(models[0], settings, device, group)
        match choice.engine:
            case "stacked":
                return (Graphed if device.type == "cuda" else Stacked)(models, settings)
            case "compiled":
                return Compiled(models[0], settings, device)
            case _:
                return Sequential(models[0], settings, device)

    def environment(self, device: torch.device) -> Mapping[str, Any]:
        """The device, the threads and the versions; the processes of a run, where there are several."""
        group = current()
        ranks = {"ranks": group.size, "ranks_backend": group.backend} if group is not None else {}
        return {**environment(device), **ranks}

    def notes(self, run: RunSpec) -> tuple[str, ...]:
        """No notes."""
        return ()


BACKEND = TorchBackend()
