"""One optimizer step, for a run alone or for its replicas together: behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.engine.build import make_objective, make_optimizer
from bnbench.engine.choose import Engine
from bnbench.engine.stacked.stack import Stack
from bnbench.study import Settings


def autocast(settings: Settings, device: torch.device) -> AbstractContextManager[object]:
    """Inside, the network computes in the study's precision."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class Stepper:
    """Steps S models, given alike in all but their weights.

    engine: its name. optimizer: its learning rates may be set between the steps. notes: what the user should know.
    """

    engine: Engine
    optimizer: torch.optim.Optimizer

    def __init__(self) -> None:
        self.notes: list[str] = []

    def prepare(self, images: Tensor, labels: Tensor) -> None:
        """Before the clock starts: whatever has to be done once. Leaves the models as they are."""

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (S, N, C, H, W), labels (S, N): one update; the objectives before it, (S,)."""
        raise NotImplementedError


class Sequential(Stepper):
    """One model, stepped as PyTorch's users do."""

    engine: Engine = "sequential"

    def __init__(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        super().__init__()
        self.model, self.settings, self.device = model, settings, device
        self.optimizer = make_optimizer(settings)(model)
        self.objective = make_objective(settings)

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.model(images)
        return logits

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of a single model: S is 1."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.settings, self.device):
            loss = self.objective(self.forward(images[0]), labels[0])
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return loss.detach().unsqueeze(0)


class Compiled(Sequential):
    """The same with torch.compile around the model; without it where the compiler fails, and that is said."""

    engine: Engine = "compiled"

    def __init__(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        super().__init__(model, settings, device)
        torch.compiler.reset()  # else the graphs of earlier runs count against this one's
        self._compiled: Callable[[Tensor], Tensor] | None = torch.compile(model, dynamic=False)

    def prepare(self, images: Tensor, labels: Tensor) -> None:
        """Compile: a forward and a backward whose traces are wiped out."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        with left_as_found(self.device), autocast(self.settings, self.device):
            self.objective(self.forward(images[0]), labels[0]).backward()  # type: ignore[no-untyped-call]
        self.model.load_state_dict(before)

    def forward(self, images: Tensor) -> Tensor:
        """The logits; a batch of another size than usual is not worth a graph of its own."""
        if self._compiled is None or len(images) != self.settings.batch_size:
            return super().forward(images)
        try:
            return self._compiled(images)
        except (
            Exception
        ) as error:  # whatever a compiler raises; what the model itself raises comes again below
            self._compiled = None
            self.engine = "sequential"
            self.notes.append(
                f"not compiled: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            )
            return super().forward(images)


class Stacked(Stepper):
    """Replicas as one stack."""

    engine: Engine = "stacked"

    def __init__(
        self, models: Sequence[nn.Module], settings: Settings, rates_on_device: bool = False
    ) -> None:
        super().__init__()
        self.stack = Stack(
            models, make_optimizer(settings), make_objective(settings), settings.clip_norm, rates_on_device
        )
        self.optimizer = self.stack.optimizer

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of all replicas at once."""
        self.stack.set_rates()
        return self.stack.step(images, labels)
