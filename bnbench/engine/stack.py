"""Replicas: several models of one shape that train as one, every operation done once for all of them.

The parameters of S models lie side by side in one tensor for each group of the optimizer, and the
models' own parameters are views into it: a step moves all of them, and each can be evaluated,
saved and put back as if it were alone.

**A replica's numbers do not depend on its neighbours** (on a CPU, with one thread, from two replicas
on): kernels treat the last few numbers of a row differently from the rest, so every replica
starts at a multiple of `LANES` numbers, and what is done to it is the same wherever it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

#: Numbers to a multiple of which a replica's part of a tensor is padded: 64 bytes of float32, the widest
#: vector register and the alignment of torch's own memory.
LANES = 16

#: Optimizers that treat every number for itself, so that they may be given many models as one.
ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def aligned(shape: Sequence[int], like: Tensor) -> Tensor:
    """An uninitialised tensor (S, ...) whose replicas each start at a multiple of LANES numbers."""
    count = math.prod(shape[1:])
    return like.new_empty(shape[0], padded(count))[:, :count].view(*shape)


def padded(count: int) -> int:
    """The next multiple of LANES."""
    return -(-count // LANES) * LANES


class Parameters:
    """The parameters of S models in one tensor a group, and the same for their gradients.

    models: of one architecture; their parameters and buffers become views into the stack. groups: the
    optimizer's groups of models[0]'s parameters. flats: one 1-d parameter a group, with its gradient.
    """

    def __init__(self, models: Sequence[nn.Module], groups: Sequence[Sequence[nn.Parameter]]) -> None:
        self.models = models
        self.flats: list[nn.Parameter] = []
        self._stacked: dict[int, tuple[Tensor, Tensor]] = {}
        names = {id(parameter): name for name, parameter in models[0].named_parameters()}
        for group in groups:
            self._lay_out([[model.get_parameter(names[id(p)]) for model in models] for p in group])
        for name, _ in models[0].named_buffers():
            self._stack_buffer(name)

    def _lay_out(self, group: Sequence[Sequence[nn.Parameter]]) -> None:
        """Move a group's parameters, given as the S copies of each, into one tensor."""
        sizes = [len(copies) * padded(copies[0].numel()) for copies in group]
        flat = nn.Parameter(group[0][0].new_zeros(sum(sizes)))
        flat.grad = torch.zeros_like(flat)
        for copies, values, grads in zip(
            group, torch.split(flat.detach(), sizes), torch.split(flat.grad, sizes), strict=True
        ):
            shape = (len(copies), *copies[0].shape)
            stacked, grad = (
                part.view(len(copies), -1)[:, : copies[0].numel()].view(shape) for part in (values, grads)
            )
            for index, parameter in enumerate(copies):
                stacked[index].copy_(parameter.detach())
                parameter.data = stacked[index]
                self._stacked[id(parameter)] = stacked, grad
        self.flats.append(flat)

    def _stack_buffer(self, name: str) -> None:
        owner, _, key = name.rpartition(".")
        modules = [model.get_submodule(owner) for model in self.models]
        own = modules[0]._buffers[key]
        assert own is not None
        stacked = own.new_zeros(len(modules), padded(own.numel()))[:, : own.numel()].view(-1, *own.shape)
        for index, module in enumerate(modules):
            stacked[index].copy_(module._buffers[key])  # type: ignore[arg-type]
            module._buffers[key] = stacked[index]
        self._stacked[id(modules[0]._buffers[key])] = stacked, stacked

    def of(self, tensor: Tensor | None) -> Tensor:
        """All replicas' values (S, ...) of a parameter or buffer of models[0]."""
        return self._stacked[id(tensor)][0]

    def grad(self, tensor: Tensor | None) -> Tensor:
        """The gradients (S, ...) of a parameter of models[0]: to be written to."""
        return self._stacked[id(tensor)][1]

    def blocks(self) -> Iterator[Tensor]:
        """The gradients of every parameter, (S, ...)."""
        return (self.grad(parameter) for parameter in self.models[0].parameters())


class Stack:
    """One optimizer step for S models at once.

    models: alike, in training mode, on one device. make_optimizer: makes the optimizer of a single
    model (one of ELEMENTWISE); it is handed the stack's tensors then, with the groups as they are.
    objective: of a single model: (N, classes) logits and (N,) labels to a scalar.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        objective: Callable[[Tensor, Tensor], Tensor],
        clip_norm: float | None = None,
    ) -> None:
        from bnbench.engine.stacked_layers import stacked_layers, stacked_objective

        self.models, self.clip_norm = models, clip_norm
        self.optimizer = make_optimizer(models[0])
        groups = [group["params"] for group in self.optimizer.param_groups]
        self.parameters = Parameters(models, groups)
        for group, flat in zip(self.optimizer.param_groups, self.parameters.flats, strict=True):
            group["params"] = [flat]
        self.layers = stacked_layers(models, self.parameters)
        # no gradient is wanted before the first layer with parameters
        self._first = next(index for index, layer in enumerate(self.layers) if layer.trains)
        self.objective = stacked_objective(objective)

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (S, N, ...), labels (S, N): an update; each model's objective before it, (S,)."""
        losses = self.gradients(images, labels)
        if self.clip_norm is not None:
            self._clip(self.clip_norm)
        self.optimizer.step()
        return losses

    @torch.no_grad()
    def gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Forward and backward: fills the gradients; each model's objective, (S,)."""
        x = images
        for layer in self.layers:
            x = layer.forward(x)
        losses, grad = self.objective(x, labels)
        for index in reversed(range(len(self.layers))):
            grad = self.layers[index].backward(grad, needed=index > self._first)
        return losses

    def _clip(self, largest: float) -> None:
        """torch.nn.utils.clip_grad_norm_, each model by its own norm."""
        norms = [torch.linalg.vector_norm(block.flatten(1), dim=1) for block in self.parameters.blocks()]
        total = torch.linalg.vector_norm(torch.stack(norms, 1), dim=1)
        scale = (largest / (total + 1e-6)).clamp(max=1.0)
        for block in self.parameters.blocks():
            block.mul_(scale.view(-1, *[1] * (block.ndim - 1)))
