"""Where the normalizers of a network stand, and what reaches them: found by one pass of a few samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.engine.probes import ModuleState
from bnbench.engine.process_state import left_as_found
from bnbench.norms.owner import normalizers, weight_layers
from bnbench.user_code import raise_interrupt

#: Samples of the pass: a number that few other sizes are a multiple of.
SAMPLES = 7


@dataclass(frozen=True)
class Site:
    """A normalizer, and the shape that reached it. samples: of the pass."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    samples: int = SAMPLES

    def shape_for(self, samples: int) -> tuple[int, ...] | None:
        """What reaches it with a batch of so many samples; None where the first axis does not count them."""
        first, *rest = self.shape
        return (first // self.samples * samples, *rest) if first % self.samples == 0 else None

    @property
    def signature(self) -> tuple[object, ...]:
        """Sites of one signature do the same."""
        return type(self.module), str(self.module), self.shape

    def __str__(self) -> str:
        """ "blocks.0.norm (BatchNorm1d)"."""
        return f"{self.name} ({type(self.module).__name__})"


@dataclass(frozen=True)
class WeightLayer:
    """A linear or convolution layer. follower: the normalizer that its output goes to as it is, None where to none."""

    name: str
    module: nn.Module
    follower: Site | None


@dataclass
class Sites:
    """What one pass in training mode met. error: what ended it early. draws: whether random numbers were drawn."""

    norms: list[Site] = field(default_factory=list)
    layers: list[WeightLayer] = field(default_factory=list)
    error: BaseException | None = None
    draws: bool = False


def find_sites(model: nn.Module, input_shape: Sequence[int], samples: int = SAMPLES) -> Sites:
    """Send noise through a model in training mode. Leaves it, and the process, as found."""
    parameter = next(iter(model.parameters()), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    images = torch.randn(samples, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    watch = _Watch(samples)
    with left_as_found(device) as before, ExitStack() as stack, torch.no_grad():
        stack.callback(ModuleState(model).restore)
        stack.callback(model.train, model.training)
        watch.follow(model, stack)
        model.train()
        try:
            model(images)
        except BaseException as error:  # whatever a user's layer raises: the caller judges it
            raise_interrupt(error)
            watch.found.error = error
        watch.found.draws = type(before).now(device).has_drawn_since(before)
    watch.finish(model)
    return watch.found


class _Watch:
    """Hooks on every normalizer and every layer of weights."""

    def __init__(self, samples: int) -> None:
        self.samples, self.found = samples, Sites()
        # outputs of layers by where they lie in memory; they are kept, so that no place is used twice
        self._outputs: dict[int, tuple[str, Tensor, int]] = {}
        self._followers: dict[str, Site] = {}

    def follow(self, model: nn.Module, stack: ExitStack) -> None:
        for name, module in normalizers(model):
            stack.callback(module.register_forward_pre_hook(self._enters(name)).remove)
        for name, module in weight_layers(model):
            stack.callback(module.register_forward_hook(self._leaves(name)).remove)

    def _enters(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
                return
            x = inputs[0]
            site = Site(name, module, tuple(x.shape), self.samples)
            self.found.norms.append(site)
            layer, output, version = self._outputs.get(x.untyped_storage().data_ptr(), ("", x, -1))
            if layer and output._version == version and output.numel() == x.numel():
                self._followers.setdefault(layer, site)

        return hook

    def _leaves(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self._outputs[output.untyped_storage().data_ptr()] = name, output, output._version

        return hook

    def finish(self, model: nn.Module) -> None:
        followers = self._followers
        self.found.layers = [
            WeightLayer(name, module, followers.get(name)) for name, module in weight_layers(model)
        ]
        self._outputs.clear()
