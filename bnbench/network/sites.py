"""Positions and inputs of a network's normalizers, recorded in one forward pass with a few samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import raise_interrupt
from bnbench.norms.behaviour import ModuleState
from bnbench.norms.owner import normalizers, weight_layers

#: Samples of the pass: a number that few other sizes are a multiple of.
SAMPLES = 7


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
        """For example "blocks.0.norm (BatchNorm1d)"."""
        return f"{self.name} ({type(self.module).__name__})"


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
    parameter = next(iter(model.parameters()), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    batch = inputs(samples).to(device)
    watch = _Watch(samples)
    with left_as_found(device) as before, ExitStack() as stack, torch.no_grad():
        stack.callback(ModuleState(model).restore)
        stack.callback(model.train, model.training)
        watch.follow(model, stack)
        model.train()
        try:
            model(batch)
        except BaseException as error:  # whatever a user's layer raises: the caller judges it
            raise_interrupt(error)
            watch.sites.error = error
        watch.sites.draws = type(before).now(device).has_drawn_since(before)
    watch.finish(model)
    return watch.sites


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


def _is_mask(argument: object) -> bool:
    """Whether it says which positions are padding."""
    return argument is None or (isinstance(argument, Tensor) and argument.dtype == torch.bool)


class _Watch:
    """Hooks on every normalizer and every layer of weights."""

    def __init__(self, samples: int) -> None:
        self.samples, self.sites = samples, Sites()
        # outputs of layers by where they lie in memory; they are kept, so that no place is used twice
        self._outputs: dict[int, tuple[str, Tensor, int]] = {}
        self._followers: dict[str, Site] = {}
        self._next: dict[str, Site] = {}
        self._last = ""

    def follow(self, model: nn.Module, stack: ExitStack) -> None:
        for name, module in normalizers(model):
            stack.callback(module.register_forward_pre_hook(self._enters(name)).remove)
        for name, module in weight_layers(model):
            stack.callback(module.register_forward_hook(self._leaves(name)).remove)

    def _enters(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            if not inputs or not isinstance(inputs[0], Tensor) or not all(map(_is_mask, inputs[1:])):
                return
            x = inputs[0]
            site = Site(name, module, tuple(x.shape), self.samples)
            self.sites.norms.append(site)
            self._next.setdefault(self._last, site)
            self._last = ""
            layer, output, version = self._outputs.get(x.untyped_storage().data_ptr(), ("", x, -1))
            if layer and output._version == version and output.numel() == x.numel():
                self._followers.setdefault(layer, site)

        return hook

    def _leaves(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self._outputs[output.untyped_storage().data_ptr()] = name, output, output._version
                self._last = name

        return hook

    def finish(self, model: nn.Module) -> None:
        followers = self._followers
        self.sites.layers = [
            WeightLayer(name, module, followers.get(name), self._next.get(name))
            for name, module in weight_layers(model)
        ]
        self._outputs.clear()
