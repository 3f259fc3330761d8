"""What the engine asks of a framework, and the table of them. A framework is imported where a run asks for it.

To add one: a module with a `BACKEND` here, its line in `BACKENDS`, and its name in the schema (`framework`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from bnbench.data import Sizes
from bnbench.engine.choose import EngineChoice
from bnbench.engine.steppers.base import Stepper
from bnbench.study import Settings
from bnbench.study.plan import RunSpec

#: The module of each framework, by its name in a study.
BACKENDS = {"torch": "bnbench.engine.backends.torch", "keras": "bnbench.engine.backends.keras.backend"}


class Backend(Protocol):
    """One framework. `model` is always the network as torch builds it, with its initial weights."""

    def check(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        """Raises BnbenchError where this framework can't train the network as the settings say."""
        ...

    def choose(
        self, model: nn.Module, settings: Settings, sizes: Sizes, device: torch.device
    ) -> EngineChoice:
        """What trains a cell of such networks. Leaves the network as it is."""
        ...

    def stepper(
        self,
        models: Sequence[nn.Module],
        settings: Settings,
        sizes: Sizes,
        choice: EngineChoice,
        device: torch.device,
    ) -> Stepper:
        """What steps these models, on the device already. More than one only where the choice stacks."""
        ...

    def environment(self, device: torch.device) -> Mapping[str, Any]:
        """What can change a run's last bits, as plain values; nothing is imported for it."""
        ...

    def notes(self, run: RunSpec) -> tuple[str, ...]:
        """What the user should know of a run in this framework."""
        ...


def backend_of(settings: Settings) -> Backend:
    """The framework of these settings."""
    backend: Backend = importlib.import_module(BACKENDS[settings.framework]).BACKEND
    return backend
