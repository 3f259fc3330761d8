"""What a measure gets: one replica at one step of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bnbench.probes.together import Layer, OfAll, PassOfAll, Row, Rows, Together
from bnbench.study import Settings

__all__ = [
    "Inside",
    "Layer",
    "Objective",
    "Pass",
    "Private",
    "Row",
    "Rows",
    "norm_of",
    "norms_of",
    "one_pass",
]

Objective = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of the probe batch, in train mode.

    pre, post: by the layers' names, what enters the activation (the layer's output where it has none) and what
    leaves it. gradients: by parameter name, of the objective; None where a parameter has none. pre_gradients: by the
    layers' names, the L2 norm of the objective's gradient for `pre`. loss: the objective.
    """

    loss: float
    pre: Mapping[str, Tensor]
    post: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor | None]
    pre_gradients: Mapping[str, float]


@dataclass(frozen=True)
class Private:
    """A copy of the replica that a measure may use up.

    model: in train mode, with the weights of this step. optimizer: of its parameters, with the state that training
    has reached and the rates of the next update. layers: those of this copy. loss: of inputs and targets, the
    objective of the model in the study's precision. update: clips the gradients that the parameters have now, as the
    study does, and lets the optimizer step.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    layers: tuple[Layer, ...]
    loss: Objective
    update: Callable[[], object]


@dataclass(frozen=True, eq=False)
class Inside:
    """One replica after `step` updates.

    model: a copy in train mode that all measures of this step share: they may read it, and not change it.
    layers: of that copy, in order of depth. inputs, targets: the probe batch (N, ...), samples of the training part
    without augmentation, the same for every variant of a seed and at every step. other_inputs, other_targets: a
    second such batch, of other samples where there are enough, for noise floors. objective: what is minimised. loss: of
    inputs and targets, the objective of the model in the study's precision. planned: the steps of the whole run.
    detailed: whether this is one of the steps with histograms, which take much room in a file. lr: the base rate of the
    next update, after the last step that of the last update. rates: the factor on it of each parameter by name, 1
    where it is not there. before: the weights of the layers before the last update, by name; empty at step 0.
    private: makes a copy with its optimizer. stack, place: the replicas that are measured together, and which of them
    this one is; None for a network alone.
    """

    model: nn.Module
    layers: tuple[Layer, ...]
    inputs: Tensor
    targets: Tensor
    other_inputs: Tensor
    other_targets: Tensor
    objective: Objective
    loss: Objective
    settings: Settings
    step: int
    planned: int
    detailed: bool
    lr: float
    private: Callable[[], Private]
    rates: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, Tensor] = field(default_factory=dict)
    stack: Together | None = None
    place: int = 0

    @cached_property
    def passed(self) -> Pass:
        """The pass over the probe batch, made once for all measures of this step. It moves running statistics."""
        if self.stack is not None:
            return _one_of(self.stack.passed, self.place)
        return one_pass(self.model, self.layers, lambda: self.loss(self.inputs, self.targets))

    @cached_property
    def other_pre(self) -> Mapping[str, Tensor]:
        """What enters the activations with the other probe batch, at the same weights. It moves running statistics."""
        if self.stack is not None:
            return {layer: values[self.place] for layer, values in self.stack.other_pre.items()}
        watch = _Watch()
        with watch.listening(self.layers), torch.no_grad():
            self.loss(self.other_inputs, self.other_targets)
        return watch.pre

    def rate(self, name: str) -> float:
        """The learning rate of that parameter in the next update."""
        return self.lr * self.rates.get(name, 1.0)

    @cached_property
    def together(self) -> Together:
        """The replicas that are measured together: those of the stack, or this one alone."""
        return self.stack or Together(
            1, self.layers, self.step, self.planned, self.detailed, self.lr, self.rates,
            {name: value.unsqueeze(0) for name, value in self.before.items()},
            lambda tensor: tensor.unsqueeze(0),
            lambda: _alone(self.passed),
            lambda: {name: value.unsqueeze(0) for name, value in self.other_pre.items()},
        )  # fmt: skip

    def rows(self, of_all: Callable[[Together], OfAll]) -> Iterator[Row | Rows]:
        """This replica's rows of a measure that is made for all replicas at once."""
        return iter(self.together.once(of_all, lambda: of_all(self.together))[self.place])


def _one_of(passed: PassOfAll, place: int) -> Pass:
    return Pass(
        passed.losses[place],
        {layer: values[place] for layer, values in passed.pre.items()},
        {layer: values[place] for layer, values in passed.post.items()},
        {name: None if grad is None else grad[place] for name, grad in passed.gradients.items()},
        {layer: norms[place] for layer, norms in passed.pre_gradients.items()},
    )


def _alone(passed: Pass) -> PassOfAll:
    return PassOfAll(
        {layer: values.unsqueeze(0) for layer, values in passed.pre.items()},
        {layer: values.unsqueeze(0) for layer, values in passed.post.items()},
        {name: None if grad is None else grad.unsqueeze(0) for name, grad in passed.gradients.items()},
        {layer: [norm] for layer, norm in passed.pre_gradients.items()},
        [passed.loss],
    )


#: Values that are added up in single precision before their sum goes on in double.
_CHUNK = 1024


def norm_of(values: Tensor) -> float:
    """The L2 norm of all values; sums of more than a thousand are in double precision."""
    if values.numel() <= 16 * _CHUNK:
        return float(torch.linalg.vector_norm(values, dtype=torch.float64))
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)  # as it lies in memory: no copy
    flat = values.reshape(-1).float()
    whole = len(flat) - len(flat) % _CHUNK
    chunks = torch.linalg.vector_norm(flat[:whole].view(-1, _CHUNK), dim=1)
    parts = torch.cat([chunks, flat[whole:]])
    return float(torch.linalg.vector_norm(parts, dtype=torch.float64))


def norms_of(values: Tensor) -> list[float]:
    """The L2 norm of each replica's part (S, ...)."""
    if len(values) > 1 and values[0].numel() <= 16 * _CHUNK:
        found: list[float] = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64).tolist()
        return found
    return [norm_of(part) for part in values]


def one_pass(model: nn.Module, layers: Sequence[Layer], loss: Callable[[], Tensor]) -> Pass:
    """Forward and backward, with what enters and leaves each layer's activation.

    A layer that is called more than once in a pass is seen in its first call.
    """
    watch = _Watch()
    with watch.listening(layers), torch.enable_grad():
        value = loss()
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    gradients: Sequence[Tensor | None] = ()
    if named and value.requires_grad:
        gradients = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    of_parameters = dict(zip(named, gradients, strict=False))
    return Pass(float(value.detach()), watch.pre, watch.post, of_parameters, watch.pre_gradients)


class _Watch:
    """What enters and leaves the activations in a pass, and the norms of the gradients that come back."""

    def __init__(self) -> None:
        self.pre: dict[str, Tensor] = {}
        self.post: dict[str, Tensor] = {}
        self.pre_gradients: dict[str, float] = {}

    @contextmanager
    def listening(self, layers: Sequence[Layer]) -> Iterator[None]:
        """Inside, the layers' values are kept."""
        handles = [handle for layer in layers for handle in self._listen(layer)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _listen(self, layer: Layer) -> Iterator[RemovableHandle]:
        overwrites = bool(getattr(layer.activation, "inplace", False))

        def enters(value: Any, copied: bool = False) -> None:
            if isinstance(value, Tensor) and layer.name not in self.pre:
                self.pre[layer.name] = value.detach().clone() if copied else value.detach()
                if value.requires_grad:
                    value.register_hook(lambda grad: self._comes_back(layer.name, grad))  # type: ignore[no-untyped-call]

        def leaves(value: Any) -> None:
            if isinstance(value, Tensor):
                self.post.setdefault(layer.name, value.detach())

        if layer.activation is not None:
            yield layer.activation.register_forward_pre_hook(
                lambda module, arguments: enters(arguments[0] if arguments else None, overwrites)
            )
            yield layer.activation.register_forward_hook(lambda module, arguments, output: leaves(output))
        elif layer.norm is not None and layer.norm_activates:
            yield layer.weights.register_forward_hook(lambda module, arguments, output: enters(output))
            yield layer.norm.register_forward_hook(lambda module, arguments, output: leaves(output))
        else:
            last = layer.norm or layer.weights
            yield last.register_forward_hook(lambda module, arguments, output: enters(output))

    def _comes_back(self, layer: str, grad: Tensor) -> None:
        self.pre_gradients[layer] = norm_of(grad)
