"""Layers for a stack of replicas: stacked forms, their registration, and the replicas' layout in memory.

A stacked form stands beside its layer, and is registered for the layer's exact class:

    @stacks(MyNorm)
    class StackedMyNorm(StackedLayer):
        def __init__(self, modules: Sequence[MyNorm], parameters: Parameters) -> None: ...

A layer without one works too: each replica's own module is called inside the stacked step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

#: Numbers to a multiple of which a replica's part of a tensor is padded: 64 bytes of float32, the widest
#: vector register and the alignment of torch's own memory.
LANES = 16


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
    buffers: (S, ...) each.
    """

    def __init__(self, models: Sequence[nn.Module], groups: Sequence[Sequence[nn.Parameter]]) -> None:
        self.models = models
        self.flats: list[nn.Parameter] = []
        self.buffers: list[Tensor] = []
        self._shapes: list[list[tuple[int, ...]]] = []
        self._stacked: dict[int, tuple[Tensor, Tensor]] = {}
        names = {id(parameter): name for name, parameter in models[0].named_parameters()}
        for group in groups:
            self._lay_out([[model.get_parameter(names[id(p)]) for model in models] for p in group])
        for name, _ in models[0].named_buffers():
            self._stack_buffer(name)

    def _lay_out(self, group: Sequence[Sequence[nn.Parameter]]) -> None:
        """Move a group's parameters, given as the S copies of each, into one tensor."""
        self._shapes.append([(len(copies), *copies[0].shape) for copies in group])
        sizes = [len(copies) * padded(copies[0].numel()) for copies in group]
        flat = nn.Parameter(group[0][0].new_zeros(sum(sizes)))
        flat.grad = torch.zeros_like(flat)
        place = len(self.flats)
        for copies, stacked, grad in zip(
            group, self.parts(place, flat.detach()), self.parts(place, flat.grad), strict=True
        ):
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
        self.buffers.append(stacked)
        self._stacked[id(modules[0]._buffers[key])] = stacked, stacked

    def parts(self, group: int, flat: Tensor) -> list[Tensor]:
        """Views (S, ...), one for each parameter of a group, into any tensor that is laid out as its flat is."""
        shapes = self._shapes[group]
        counts = [math.prod(shape[1:]) for shape in shapes]
        sizes = [shape[0] * padded(count) for shape, count in zip(shapes, counts, strict=True)]
        return [
            part.view(shape[0], -1)[:, :count].view(shape)
            for part, shape, count in zip(torch.split(flat, sizes), shapes, counts, strict=True)
        ]

    def of(self, tensor: Tensor | None) -> Tensor:
        """All replicas' values (S, ...) of a parameter or buffer of models[0]."""
        return self._stacked[id(tensor)][0]

    def grad(self, tensor: Tensor | None) -> Tensor:
        """The gradients (S, ...) of a parameter of models[0]: to be written to."""
        return self._stacked[id(tensor)][1]

    def blocks(self) -> Iterator[Tensor]:
        """The gradients of every parameter that learns, (S, ...)."""
        return (self.grad(parameter) for parameter in self.models[0].parameters() if parameter.requires_grad)


class StackedLayer:
    """One layer of S models at once, in training mode.

    What it keeps from step to step is in buffers of its modules: states of half-done runs hold those.

    modules: the layer of each model. parameters: where their parameters and buffers lie now.
    """

    def __init__(self, modules: Sequence[Any], parameters: Parameters) -> None:
        """For a layer that keeps nothing of its modules."""

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, ...) to (S, N, ...)."""
        raise NotImplementedError

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """From the gradient of the last forward's output to the gradients of its input and of the parameters.

        needed: whether the input's gradient is used; else whatever is returned has no meaning.
        """
        raise NotImplementedError

    def why_not_graphed(self) -> str:
        """Why kernels that are recorded once can't stand for every step; "" where they can."""
        return ""


class StackedForm(Protocol):
    """What makes the stacked layer of S modules: usually its class."""

    def __call__(self, modules: Sequence[Any], parameters: Parameters) -> StackedLayer:
        """The stacked layer."""
        ...


Form = TypeVar("Form", bound=StackedForm)
Condition = Callable[[Any], bool]

#: The stacked form of each class of layers, and which of its instances have it.
_FORMS: dict[type[nn.Module], tuple[StackedForm, Condition]] = {}


def stacks(kind: type[nn.Module], *, where: Condition = lambda module: True) -> Callable[[Form], Form]:
    """Decorator: a stacked form of the layers of exactly this class. where: only of layers for which this is true."""

    def add(form: Form) -> Form:
        _FORMS[kind] = form, where
        return form

    return add


def stacked_form(module: nn.Module) -> StackedForm | None:
    """The form that is registered for this layer; None where there is none."""
    form, where = _FORMS.get(type(module), (None, None))
    return form if form and where and where(module) else None


def stacked_kinds() -> list[type[nn.Module]]:
    """The classes that have a stacked form."""
    return list(_FORMS)
