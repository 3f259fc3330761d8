"""Copies of a network in float64, its outputs and gradients for a made-up loss; what a proof needs to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from bnbench.base.process_state import seeded
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.convert.carrying import roles_in, tensor_of
from bnbench.network.convert.copying import copied
from bnbench.network.sites.norm_site import NormSite
from bnbench.network.source.records import call

#: Samples of a pass. A batch norm over few values multiplies rounding: where a proof rests on digits, more are tried.
SAMPLES, MORE_SAMPLES = 6, 24
Inputs = Callable[[int], Any]


class CannotRunError(Exception):
    """Why a network can't run here. One sentence."""


@dataclass(frozen=True)
class Pass:
    """One pass forward and backward. outputs: every float tensor of them. gradients: by the parameter's name."""

    outputs: tuple[Tensor, ...]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]

    @property
    def is_finite(self) -> bool:
        """Whether all outputs and gradients are."""
        return all(bool(x.isfinite().all()) for x in (*self.outputs, *self.gradients.values()))

    def named(self, names: Mapping[str, str]) -> Pass:
        """The same under other names."""
        gradients = {names.get(name, name): value for name, value in self.gradients.items()}
        return Pass(
            self.outputs, gradients, {names.get(name, name): value for name, value in self.buffers.items()}
        )


class Trials:
    """Copies of one network in float64 with random norms, and what it gives as it is, which two proofs compare with.

    Raises CannotRunError without inputs, and for a network without values.
    """

    def __init__(self, model: nn.Module, sites: Sequence[NormSite], inputs: Inputs | None) -> None:
        self.model, self.sites = model, sites
        self._inputs, self._passes = inputs, dict[tuple[bool, int], Pass]()
        self._drawn: dict[int, Any] = {}

    def copy(self) -> nn.Module:
        """The same each time."""
        return scrambled(copied(self.model).double(), self.sites)

    def inputs(self) -> Inputs:
        """What the network runs on. Raises CannotRunError."""
        if any(tensor.is_meta for tensor in (*self.model.parameters(), *self.model.buffers())):
            raise CannotRunError("the network is on the meta device: it has shapes and no values")
        if self._inputs is None:
            raise CannotRunError("no inputs were given to run the network on")
        return self._same

    def _same(self, samples: int) -> Any:
        """The same numbers each time, also where a function draws others at each call."""
        assert self._inputs is not None
        if samples not in self._drawn:
            with seeded(0, torch.device("cpu")):
                self._drawn[samples] = self._inputs(samples)
        return self._drawn[samples]

    def before(self, training: bool, samples: int = SAMPLES) -> Pass:
        """A pass of the network as it is: first in training, then in inference. Raises CannotRunError."""
        if (training, samples) not in self._passes:
            inputs, base = self.inputs(), self.copy()
            for mode, words in ((True, "in training"), (False, "in inference")):
                try:
                    self._passes[mode, samples] = run(base, inputs, mode, samples)
                except BaseException as error:  # whatever a user's network raises
                    raise_interrupt(error)
                    raise CannotRunError(
                        f"the network does not run {words} in float64: {first_line(error)}"
                    ) from error
        if not self._passes[training, samples].is_finite:
            words = "in training" if training else "in inference"
            raise CannotRunError(f"the network gives infinity or NaN {words} in float64")
        return self._passes[training, samples]


@torch.no_grad()
def scrambled(model: nn.Module, sites: Sequence[NormSite]) -> nn.Module:
    """Other values for gamma, beta and running statistics: with ones and zeros, mistakes would not show.

    So it is with a layer whose weights start at zero: nothing before it would have a gradient.
    """
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        return model
    draw = torch.Generator().manual_seed(0)
    done: set[int] = set()
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dim() > 1 and not bool(parameter.any()):
            parameter.uniform_(-0.1, 0.1, generator=draw)

    def noise(value: Tensor) -> Tensor:
        return torch.rand(value.shape, generator=draw, dtype=torch.float64).to(value)

    for site in sites:
        if site.module is None or site.refused:
            continue
        layer = model.get_submodule(site.name)
        names = [name for name in (site.behaviour.gamma, site.behaviour.beta) if name]
        for name in names:
            value = tensor_of(layer, name)
            if id(value) not in done:
                done.add(id(value))
                value.add_(0.1 + 0.3 * noise(value))
        for name, own in roles_in(site.behaviour, layer).statistics.items():
            value = tensor_of(layer, own)
            if id(value) in done or not value.is_floating_point():
                continue
            done.add(id(value))
            value.mul_(1 + 0.2 * noise(value)) if name == "running_var" else value.add_(0.2 * noise(value))
    return model


def run(model: nn.Module, inputs: Inputs, training: bool, samples: int = SAMPLES) -> Pass:
    """Outputs, gradients of a made-up loss, and buffers, with the same random numbers each time."""
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    given = tree_map(lambda value: _moved(value, device), inputs(samples))
    model.train(training)
    leaves = {name: value for name, value in model.named_parameters() if value.is_leaf}
    for value in leaves.values():
        value.grad = None
    with torch.enable_grad(), seeded(1, device):
        outputs = [value for value in tree_flatten(call(model, given))[0] if isinstance(value, Tensor)]
        outputs = [value for value in outputs if value.is_floating_point()]
        loss = made_up_loss(outputs)
        if loss is not None and loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: value.grad for name, value in leaves.items() if value.grad is not None}
    buffers = {n: b.detach().clone() for n, b in model.named_buffers() if b.is_floating_point()}
    return Pass(tuple(value.detach() for value in outputs), gradients, buffers)


def made_up_loss(outputs: Sequence[Tensor]) -> Tensor | None:
    """A sum of all outputs with random weights: every output has a part in it."""
    draw = torch.Generator().manual_seed(2)
    terms = [
        (value * torch.randn(value.shape, generator=draw, dtype=torch.float64).to(value)).sum()
        for value in outputs
    ]
    return sum(terms[1:], terms[0]) if terms else None


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    wanted = torch.float64 if value.is_floating_point() else value.dtype
    return value.detach().to(device=device, dtype=wanted, copy=True)  # a network may change it in place


def largest(tensors: Sequence[Tensor]) -> float:
    """The largest entry's size; 0 without entries."""
    return max((float(value.abs().max()) for value in tensors if value.numel()), default=0.0)


def relative(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest difference, over the largest entry that is wanted; infinite where names or shapes differ."""
    if set(given) != set(wanted) or any(given[name].shape != wanted[name].shape for name in wanted):
        return float("inf")
    scale = largest(list(wanted.values()))
    worst = largest([given[name].double() - wanted[name].double() for name in wanted])
    return worst / scale if scale else worst
