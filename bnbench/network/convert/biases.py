"""Biases of the layers before a normalization: they come back where the old layer stood for them, and go where the new
one does.

The rule is that of the built-in models (`bnbench.norms.fairness`): a bias right before a layer that takes it out again
does nothing, and one before any other layer does something. A bias that comes back starts as torch's own layers start
it, uniform between ±1/√fan_in, from a stream of its layer's name; and at 0 where the new layer has the running
statistics of a trained one, so that inference stays what it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bnbench.base.process_state import seeded
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.network.sites.norm_site import Neighbour, NormSite
from bnbench.norms.behaviour import CPU, ModuleState

#: fair: as the module says. keep: none comes, none goes.
Biases = Literal["fair", "keep"]
Action = Literal["given back", "taken out", "kept", "none", ""]
_GIVEN, _KEPT = "given", "kept"
_MARK = "bnbench_bias"


@dataclass(frozen=True)
class BiasChange:
    """What became of the bias before a normalization. action: "" where nothing stands there that could have one."""

    producer: str = ""
    action: Action = ""
    reason: str = ""
    size: int = 0


@dataclass(frozen=True)
class BiasRule:
    """before, after: whether the old and the new layer take a bias out. seed: None: a bias starts at 0."""

    word: Biases
    before: bool
    after: bool
    seed: int | None


def takes_bias_out(site: NormSite) -> bool:
    """Whether a number that is added to a channel before the old layer has no effect in training."""
    found = site.behaviour
    if found.kind in ("frozen", "other") or not found.centers:
        return False
    rank = len(site.shapes[0]) if site.shapes else max((*found.axes, found.channel_axis, 1)) + 1
    channel = found.channel_axis % rank
    if found.kind == "group":
        return found.groups == found.num_features
    return channel not in {axis % rank for axis in found.axes}


def change_biases(model: nn.Module, site: NormSite, rule: BiasRule) -> tuple[BiasChange, ...]:
    """Give the layers before the site their biases back, or take them out: one layer, or one for each call."""
    producers = dict.fromkeys(site.producers or (site.producer,))
    if len(producers) > 1 and None in producers:
        return (BiasChange(reason="what stands before one of its calls is not known"),)
    return tuple(_change(model, site, producer, rule) for producer in producers)


def _change(model: nn.Module, site: NormSite, producer: Neighbour | None, rule: BiasRule) -> BiasChange:
    if producer is None:
        return BiasChange(reason="what stands before it is not known")
    if producer.kind == "input":
        return BiasChange(reason="it stands at the network's input")
    if producer.kind != "module" or not producer.name:
        return BiasChange(
            reason=f"no layer of weights stands right before it, but {producer.name or producer.kind}"
        )
    layer = model.get_submodule(producer.name)
    if not isinstance(layer, nn.Linear | _ConvNd):
        return BiasChange(
            producer.name, "", f"{type(layer).__name__} before it is no layer whose bias is known"
        )
    has: Action = "none" if layer.bias is None else "kept"
    if rule.before == rule.after:
        return BiasChange(producer.name, has)
    if rule.word == "keep":
        return BiasChange(producer.name, has, "biases: keep" if rule.before and layer.bias is None else "")
    if not producer.only or producer.calls > max(site.calls, 1):
        used = (
            f"{producer.name} is read elsewhere, too"
            if not producer.only
            else f"{producer.name} is called often"
        )
        return BiasChange(producer.name, has, used)
    return _give(layer, producer.name, rule.seed) if rule.before else _take(layer, producer.name)


def _give(layer: nn.Linear | _ConvNd, name: str, seed: int | None) -> BiasChange:
    if layer.bias is not None:
        vars(layer)[_MARK] = vars(layer).get(_MARK, _KEPT)
        return BiasChange(name, "kept")
    # not its weight: a parametrized or a weight-normed one is computed when it is read
    own = [parameter for parameter in layer.parameters() if parameter.is_floating_point()]
    size = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    value = torch.zeros(size)
    if seed is not None:
        bound = 1 / math.sqrt(_fan_in(layer))
        value.uniform_(-bound, bound, generator=generator(seed, "init", name, "bias"))
    learns = any(parameter.requires_grad for parameter in own)
    layer.bias = nn.Parameter(value.to(own[0]) if own else value, learns)
    if not uses_bias(layer):
        layer.bias = None
        return BiasChange(name, "none", f"{type(layer).__name__} does not use its bias")
    vars(layer)[_MARK] = _GIVEN
    return BiasChange(name, "given back", size=size)


def _fan_in(layer: nn.Linear | _ConvNd) -> int:
    """The size of one entry of its weight, as torch counts it."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    channels = layer.out_channels if isinstance(layer, _ConvTransposeNd) else layer.in_channels
    return channels // layer.groups * math.prod(layer.kernel_size)


def _take(layer: nn.Linear | _ConvNd, name: str) -> BiasChange:
    if layer.bias is None:
        return BiasChange(name, "none")
    if vars(layer).pop(_MARK, _GIVEN) == _KEPT:
        return BiasChange(name, "kept", "it had its bias before such a layer before")
    size = layer.bias.numel()
    layer.bias = None
    return BiasChange(name, "taken out", "the new layer takes it out again", size)


def uses_bias(layer: nn.Linear | _ConvNd) -> bool:
    """Whether its bias changes what it gives: a subclass may have a forward that knows none."""
    if type(layer).forward in (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward):
        return True
    if type(layer).__module__.startswith("torch.nn.modules"):
        return True
    bias = layer.bias
    if bias is None or bias.is_meta:
        return bias is not None
    state = ModuleState(layer)
    try:
        with torch.no_grad(), seeded(0, CPU):
            x = _sample(layer).to(bias)
            y = layer(x)
            bias.add_(1)
            moved = layer(x)
            return isinstance(y, Tensor) and isinstance(moved, Tensor) and not torch.equal(y, moved)
    except BaseException as error:  # a forward that wants something else
        raise_interrupt(error)
        return False
    finally:
        state.restore()


def _sample(layer: nn.Linear | _ConvNd) -> Tensor:
    """Zeros that it takes."""
    if isinstance(layer, nn.Linear):
        return torch.zeros(2, layer.in_features)
    sizes = [3 if isinstance(layer, _ConvTransposeNd) else k * d + s for k, d, s in _sizes(layer)]
    return torch.zeros(2, layer.in_channels, *sizes)


def _sizes(layer: _ConvNd) -> list[tuple[int, int, int]]:
    return list(zip(layer.kernel_size, layer.dilation, layer.stride, strict=True))
