"""Positions and inputs of a network's normalizers, recorded in one forward pass with a few samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import raise_interrupt
from bnbench.network.flow.forward_pass import forward_pass, is_leaf
from bnbench.network.flow.neighbours import Flow
from bnbench.network.sites.candidates import normalizing
from bnbench.norms.behaviour import ModuleState
from bnbench.norms.owner import weight_layers

#: Samples of the pass: a number that few other sizes are a multiple of.
SAMPLES = 7


_TURNS = frozenset("permute transpose t T mT swapaxes swapdims movedim moveaxis".split())
_FLATTENS = frozenset("reshape flatten contiguous clone".split())

#: From a number of samples to that many inputs of a network.
Inputs = Callable[[int], Tensor]


@dataclass(frozen=True)
class Site:
    """A normalizer, and the shape that reached it. samples: of the pass."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    samples: int = SAMPLES

    def shape_for(self, samples: int) -> tuple[int, ...] | None:
        """The input shape for this batch size; None where the first axis does not count the samples."""
        first, *rest = self.shape
        return (first // self.samples * samples, *rest) if first % self.samples == 0 else None

    @property
    def signature(self) -> tuple[object, ...]:
        """Sites of one signature do the same."""
        return type(self.module), str(self.module), self.shape

    def __str__(self) -> str:
        """For example "blocks.0.norm (BatchNorm1d)"; the layer itself where it was put into another's network."""
        module = vars(self.module).get("norm", self.module)
        return f"{self.name} ({type(module if isinstance(module, nn.Module) else self.module).__name__})"


@dataclass(frozen=True)
class WeightLayer:
    """A linear or convolution layer. follower: the normalizer that its output goes to as it is, None where to none.

    next: the first normalizer that works after it, before another layer of weights does, whatever is between.
    """

    name: str
    module: nn.Module
    follower: Site | None
    next: Site | None


@dataclass
class Sites:
    """Record of one pass in training mode. error: the exception that ended it. draws: it drew random numbers."""

    norms: list[Site] = field(default_factory=list)
    layers: list[WeightLayer] = field(default_factory=list)
    error: BaseException | None = None
    draws: bool = False


def find_sites(model: nn.Module, inputs: Inputs, samples: int = SAMPLES) -> Sites:
    """Send random inputs through a model in training mode; restore the model and the process afterwards."""
    seen = forward_pass(model, inputs, samples, training=True)
    names = {id(module): name for name, module in reversed(list(model.named_modules()))}
    norms = normalizing(model, seen.calls)
    found = Sites(error=seen.error, draws=seen.draws)
    recorder = seen.recorder
    assert recorder is not None
    for call in recorder.calls:
        if id(call.module) in norms and call.shape and not call.further:
            found.norms.append(Site(names[id(call.module)], call.module, call.shape, samples))
    sites = {id(site.module): site for site in reversed(found.norms)}
    flow = Flow(recorder.nodes(lambda module: id(module) in norms or is_leaf(module)))
    following = _next(flow, sites)
    found.layers = [
        WeightLayer(name, module, _follower(flow, module, sites), following.get(id(module)))
        for name, module in weight_layers(model)
    ]
    return found


def _next(flow: Flow, sites: Mapping[int, Site]) -> dict[int, Site]:
    """By layer of weights: the first normalizer at work after it, and before another layer of weights."""
    found: dict[int, Site] = {}
    last: int | None = None
    for node in flow.nodes:
        if id(node.module) in sites:
            if last is not None:
                found.setdefault(last, sites[id(node.module)])
            last = None
        elif node.module is not None and next(weight_layers(node.module), ("?",))[0] == "":
            last = id(node.module)
    return found


def _follower(flow: Flow, layer: nn.Module, sites: Mapping[int, Site]) -> Site | None:
    """The first normalizer that reads the layer's output as it lies in memory."""
    for node in flow.calls_of_id(id(layer)):
        for neighbour in flow.consumers(node):
            site = sites.get(id(neighbour.module))
            if site is not None and not _is_copied(neighbour.through):
                return site
    return None


def _is_copied(through: Sequence[str]) -> bool:
    """Whether axes change places and become one: positions and channels are then mixed."""
    return not _TURNS.isdisjoint(through) and not _FLATTENS.isdisjoint(through)


def ignores_shift(model: nn.Module, layer: nn.Module, inputs: Inputs) -> bool:
    """Whether in training the network gives the same where a number is added to every channel of the layer's output."""

    def shifted(module: nn.Module, arguments: Any, output: Any) -> Any:
        axis = -1 if isinstance(layer, nn.Linear) else 1
        shift = torch.linspace(-1, 1, output.shape[axis], device=output.device)
        return output + shift.reshape([-1 if a == axis % output.dim() else 1 for a in range(output.dim())])

    original = _outputs(model, inputs)
    hook = layer.register_forward_hook(shifted)
    try:
        moved = _outputs(model, inputs)
    finally:
        hook.remove()
    return _same(original, moved)


def ignores_size(layer: nn.Module, weight: nn.Parameter) -> bool:
    """Whether a layer gives the same with a weight three times as large."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return False
    shape = (layer.in_features,) if isinstance(layer, nn.Linear) else (layer.in_channels, 9, 9)
    before = weight.detach().clone()
    with torch.no_grad():
        if not weight.any():  # as fixup starts some layers: three times zero shows nothing
            weight.fill_(1)
        original = _outputs(layer, noise(shape))
        weight.mul_(3)
    try:
        return _same(original, _outputs(layer, noise(shape)))
    finally:
        with torch.no_grad():
            weight.copy_(before)


def noise(input_shape: Sequence[int]) -> Inputs:
    """Normal numbers, the same each time."""
    return lambda samples: torch.randn(samples, *input_shape, generator=torch.Generator().manual_seed(0))


def _outputs(model: nn.Module, inputs: Inputs) -> Tensor | None:
    """A network's training-mode outputs for random inputs; None where they can't be compared."""
    parameter = next(iter(model.parameters()), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    batch = inputs(SAMPLES).to(device)
    with left_as_found(device), ExitStack() as stack, torch.no_grad():
        stack.callback(ModuleState(model).restore)
        stack.callback(model.train, model.training)
        torch.manual_seed(0)
        model.train()
        try:
            logits = model(batch)
        except BaseException as error:
            raise_interrupt(error)
            return None
        return logits.detach().clone() if isinstance(logits, Tensor) else None


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return (
        one is not None and other is not None and bool(((one - other).abs() <= 1e-3 * (1 + one.abs())).all())
    )
