"""One model behind torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.engine.steppers.base import autocast
from bnbench.engine.steppers.sequential import Sequential
from bnbench.study import Settings


class Compiled(Sequential):
    """`Sequential` with torch.compile around the model; where the compiler fails, without it and with a note."""

    engine = "compiled"

    def __init__(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        super().__init__(model, settings, device)
        torch.compiler.reset()  # else the graphs of earlier runs count against this one's
        self._compiled: Callable[[Tensor], Tensor] | None = torch.compile(model, dynamic=False)

    def prepare(self, inputs: Tensor, targets: Tensor) -> None:
        """Compile with a forward and a backward; the model keeps its state."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        with left_as_found(self.device), autocast(self.settings, self.device):
            self.objective(self.forward(inputs[0]), targets[0]).backward()  # type: ignore[no-untyped-call]
        self.model.load_state_dict(before)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits; a batch of another size than usual is not worth a graph of its own."""
        if self._compiled is None or len(inputs) != self.settings.batch_size:
            return super().forward(inputs)
        try:
            return self._compiled(inputs)
        # whatever a compiler raises; an error of the model itself is raised again below
        except Exception as error:
            self._compiled = None
            self.engine = "sequential"
            reason = str(error).strip().partition("\n")[0]
            self.notes.append(f"not compiled: {type(error).__name__}: {reason}")
            return super().forward(inputs)

    def kept(self, index: int) -> dict[str, Any]:
        """Also whether the compiler failed: the run goes on without it, then."""
        return {**super().kept(index), "engine": self.engine}

    def put_back(self, index: int, kept: dict[str, Any]) -> None:
        """Whether it is compiled."""
        if kept["engine"] != self.engine:
            self._compiled, self.engine = None, kept["engine"]
