"""Losses and gradients of a private copy at chosen weights: what the costly measures are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bnbench.base.process_state import seeded
from bnbench.base.seeding import derive
from bnbench.probes.inside import Inside, Layer

#: Stands for the layer in the rows that are about all of them together.
NETWORK = "network"


class Batch(NamedTuple):
    """Inputs (N, ...) and targets (N, ...)."""

    inputs: Tensor
    targets: Tensor


class Trial:
    """A private copy of the network, evaluated at any weights.

    Every pass starts from the same buffers and the same random streams: two passes differ in nothing but their
    weights and their batch, also where a layer uses running statistics in training or draws noise.

    batch, other: as many samples of the two probe batches as a training step has, because what batch norm does depends
    on their number. start: the trainable parameters of this step by name. names: theirs, in the model's order.
    """

    def __init__(self, inside: Inside) -> None:
        self.private = inside.private()
        size = inside.settings.batch_size
        self.batch = Batch(inside.inputs[:size], inside.targets[:size])
        self.other = Batch(inside.other_inputs[:size], inside.other_targets[:size])
        named = self.private.model.named_parameters()
        self.parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.start = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self._buffers = [(buffer, buffer.clone()) for buffer in self.private.model.buffers()]
        self._seed = derive(inside.step, "probe")

    @contextmanager
    def same_state(self) -> Iterator[None]:
        """Inside, buffers and random streams start as they do in every pass."""
        for buffer, value in self._buffers:
            buffer.copy_(value)
        with seeded(self._seed, self.batch.inputs.device):
            yield

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Give the parameters of these names these values."""
        for name, value in values.items():
            self.parameters[name].copy_(value)

    def loss(self, batch: Batch) -> Tensor:
        """The objective of a batch at the weights as they are, with its history."""
        with self.same_state():
            return self.private.loss(*batch)

    def gradient(self, batch: Batch, wanted: Sequence[nn.Parameter] | None = None) -> tuple[float, Tensor]:
        """The objective of a batch, and its gradient for these parameters (None: all) as one vector.

        A parameter that the objective does not depend on has a gradient of zeros.
        """
        wanted = list(self.parameters.values()) if wanted is None else wanted
        loss = self.loss(batch)
        parts = torch.autograd.grad(loss, wanted, allow_unused=True)
        pairs = zip(parts, wanted, strict=True)
        vector = torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        return float(loss.detach()), vector

    def updated(self) -> dict[str, Tensor]:
        """The parameters by name after the study's own update with the batch; the weights are put back."""
        for parameter in self.private.model.parameters():
            parameter.grad = None
        self.loss(self.batch).backward()  # type: ignore[no-untyped-call]
        self.private.update()
        after = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.put(self.start)
        return after


def weights_of(layer: Layer) -> list[nn.Parameter]:
    """The trainable parameters behind a layer's weight: the weight itself, or what it is computed from; no bias."""
    named = layer.weights.named_parameters()
    return [p for name, p in named if p.requires_grad and name.rpartition(".")[2] != "bias"]


def depths(model: nn.Module, layers: Sequence[Layer]) -> dict[str, int]:
    """The depth of the layer that each parameter of the model belongs to, by name.

    A layer owns the parameters of its weights, its norm and its activation. A parameter outside of them all, such
    as a factor on a residual branch, belongs to the layer that stands before it in the model, else to the first one.
    """
    owner: dict[int, int] = {}
    for layer in layers:
        for module in (layer.weights, layer.norm, layer.activation):
            for parameter in module.parameters() if module is not None else ():
                owner.setdefault(id(parameter), layer.depth)
    found, last = {}, 1
    for name, parameter in model.named_parameters():
        last = owner.get(id(parameter), last)
        found[name] = last
    return found


def relative(change: Tensor, of: Tensor) -> float:
    """‖change‖ / ‖of‖; NaN where that is 0/0 or not finite."""
    size, whole = (float(torch.linalg.vector_norm(vector.double())) for vector in (change, of))
    ratio = size / whole if whole else float("nan")
    return ratio if ratio < float("inf") else float("nan")


def cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of the angle between two vectors; NaN where one of them is 0 or not finite."""
    a, b = a.double(), b.double()
    product = float(torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b))
    return float(a @ b) / product if product else float("nan")
