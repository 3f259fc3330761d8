"""The stacked step on a GPU as one CUDA graph: its kernels one by one would take longer to launch than to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bnbench.engine.stacked.chain import chain
from bnbench.engine.stacked.stack import Stack
from bnbench.engine.steppers.stacked import Stacked
from bnbench.study import Settings

#: From a step to what makes it again, and the tensor that its losses will be in.
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
#: Steps before the capture, in which libraries find their kernels and workspaces.
WARM_UP = 3


class Graphed(Stacked):
    """Replicas as one stack, its step captured once and then replayed; without the graph where that fails."""

    def __init__(
        self, models: Sequence[nn.Module], settings: Settings, capture: Capture | None = None
    ) -> None:
        super().__init__(models, settings, rates_on_device=True)
        self._capture = capture or _capture
        self._replay: Callable[[], object] | None = None

    def prepare(self, inputs: Tensor, targets: Tensor) -> None:
        """Capture a step, and undo its effects."""
        if why := why_not_graphed(self.stack):
            self.notes.append(f"no CUDA graph: {why}")
            return
        state = self.stack.state()
        before = [tensor.clone() for tensor in state]
        self._inputs, self._targets = inputs.clone(), targets.clone()
        try:
            self.stack.set_rates()
            self._replay, self._losses = self._capture(lambda: self.stack.step(self._inputs, self._targets))
        except RuntimeError as error:
            self.notes.append(f"no CUDA graph: {error}".partition("\n")[0])
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Of all replicas at once; a batch of another size than the captured one is stepped as it is."""
        if self._replay is None or inputs.shape != self._inputs.shape:
            return super().step(inputs, targets)
        self.stack.set_rates()
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        self._replay()
        return self._losses


def why_not_graphed(stack: Stack) -> str:
    """Why a graph can't stand for the stacked step; "" where it can: it replays kernels, and no Python."""
    if stack.fused is None:
        return "the optimizer's step is not its kernels alone"
    if not stack.knows_objective:
        return "the loss has no stacked form"
    for module, layer in zip(chain(stack.models[0]), stack.layers, strict=True):
        if reason := layer.why_not_graphed():
            return f"{type(module).__name__} {reason}"
    return ""


def _capture(step: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """By torch.cuda.graph, after a warm-up on a stream of its own, as PyTorch's notes on CUDA graphs ask."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = step()
    return graph.replay, losses
