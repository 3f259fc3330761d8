"""Which modules may be normalizations: those that are tried. Names decide nothing here but for what can't be tried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from bnbench.network.flow.recording import Call
from bnbench.network.sites.behaviour import behaviour_of, values_of
from bnbench.network.sites.norm_site import Kind, NormBehaviour
from bnbench.network.sites.trial_copy import trial_shapes
from bnbench.norms.owner import _TORCH_NORMS, _WEIGHT_LAYERS, is_normalizer, made_as, normalizers
from bnbench.norms.tokens import TokenNorm

#: Scripted modules have no class any more; their conversion keeps its name.
_WEIGHT_NAMES = re.compile("(Conv|ConvTranspose)[123]d|Linear|Bilinear|Embedding|LSTM|GRU|RNN")
#: By a part of the class's name: of layers that can't be tried, as quantized and lazy ones.
_KINDS: tuple[tuple[str, Kind], ...] = (
    ("syncbatchnorm", "sync"),
    ("batchnorm", "batch"),
    ("groupnorm", "group"),
    ("instancenorm", "instance"),
    ("rmsnorm", "rms"),
    ("layernorm", "layer"),
)


def behaviours_of(
    model: nn.Module, calls: Mapping[int, Sequence[Call]], samples: int, only: Set[int] | None = None
) -> dict[int, NormBehaviour]:
    """What each normalization computes, by the identity of its module, in the order of the network's modules.

    calls: of a forward pass, by the identity of the module. Of modules that hold others the innermost counts, but what
    was made by a normalizer's factory counts as one. Equal layers on equal shapes are tried once. only: the identities
    of the modules to look at; None: of all.
    """
    found: dict[int, NormBehaviour] = {}
    tried: dict[object, NormBehaviour | None] = {}
    for module in _candidates(model):
        if only is not None and id(module) not in only:
            continue
        inside = {id(inner) for inner in module.modules()} & found.keys()
        if inside and made_as(module) is None:
            continue
        called = next((call for call in calls.get(id(module), ()) if call.shape), None)
        if called and called.output is not None and called.output != called.shape and made_as(module) is None:
            continue
        key = type(module), _configuration(module), _sizes(module, called)
        if key not in tried:
            tried[key] = _behaviour(module, called)
        behaviour = tried[key]
        if behaviour is None:
            continue
        behaviour = _measured(module, behaviour, called, samples)
        for inner in inside:
            del found[inner]
        if called and called.further and made_as(module) is None:
            behaviour = replace(behaviour, includes=(*behaviour.includes, *called.further))
        found[id(module)] = behaviour
    order = {id(module): number for number, module in enumerate(model.modules())}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def normalizing(model: nn.Module, calls: Mapping[int, Sequence[Call]]) -> set[int]:
    """The identities of the modules inside a network that normalize, without what they compute.

    Those that a factory has marked and those that say so by their class are not tried.
    """
    known = {id(module): module for _, module in normalizers(model)}
    inside = {id(inner) for module in known.values() for inner in module.modules()}
    named = [n for n, module in model.named_modules() if n and id(module) not in inside]
    rest = {
        id(model.get_submodule(name)) for name in named if _may_normalize(name, model.get_submodule(name))
    }
    found = behaviours_of(model, {key: made for key, made in calls.items() if key in rest}, 1, only=rest)
    return known.keys() | found.keys()


def _candidates(model: nn.Module) -> Iterator[nn.Module]:
    """Modules without layers of weights; the innermost first."""
    return (module for name, module in reversed(list(model.named_modules())) if _may_normalize(name, module))


def _may_normalize(name: str, module: nn.Module) -> bool:
    if "parametrizations" in name.split("."):
        return False
    if made_as(module) is not None:
        return not isinstance(module, TokenNorm) and type(module) is not nn.Identity
    if type(module).__module__.startswith("torch.nn.modules.") and not isinstance(module, _TORCH_NORMS):
        return False
    return not any(_has_weights(inner) for inner in module.modules())


def _has_weights(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return bool(_WEIGHT_NAMES.fullmatch(str(getattr(module, "original_name", ""))))
    return isinstance(module, (*_WEIGHT_LAYERS, nn.Embedding, nn.RNNBase))


def _has_any_width(module: nn.Module) -> bool:
    """Whether it does the same for any number of channels: batch and instance norms of vectors alone."""
    values = [*module._parameters.values(), *module._buffers.values()]
    sizes = {value.numel() for value in values if value is not None and value.dim() and not is_lazy(value)}
    return isinstance(module, _NormBase) and sizes <= {module.num_features} and module.num_features > 1


def _sizes(module: nn.Module, called: Call | None) -> object:
    """What of the input's shape may change what a layer does."""
    if called is None:
        return None
    return len(called.shape) if _has_any_width(module) else tuple(trial_shapes(called.shape)[:2])


def _measured(module: nn.Module, found: NormBehaviour, called: Call | None, samples: int) -> NormBehaviour:
    """The behaviour of one of its kind, with this module's own sizes."""
    if isinstance(module, _NormBase) and _has_any_width(module):
        found = replace(found, num_features=int(module.num_features))
    if called and not found.axes and found.num_features in called.shape[1:]:  # of a form of its own
        axis = len(called.shape) - 1 - called.shape[:0:-1].index(found.num_features)
        found = replace(found, channel_axis=1 if called.shape[1] == found.num_features else axis)
    return replace(found, values=values_of(found, called.shape, samples) if called else 0)


def _behaviour(module: nn.Module, called: Call | None) -> NormBehaviour | None:
    found, was_tried = None, False
    for shape in [called.shape] if called else _guesses(module):
        try:
            found = behaviour_of(module, shape)
        except ValueError:
            continue
        was_tried = True
        if found is not None and found.kind != "other":
            break
    if found is None and (made_as(module) is not None or _is_named(module)):
        return _by_name(module, was_tried)
    return found


def _is_named(module: nn.Module) -> bool:
    name = str(getattr(module, "original_name", type(module).__name__))
    return (
        is_normalizer(module) or "norm" in name.lower() or name.endswith("GRN")
    )  # global response normalization


def _by_name(module: nn.Module, was_tried: bool) -> NormBehaviour:
    """Of what has a form of its own, no more than that; of what can't be tried, the kind that its class says."""
    name = "" if was_tried else str(getattr(module, "original_name", type(module).__name__)).lower()
    kind: Kind = next((kind for part, kind in _KINDS if part in name), "other")
    sizes = [0 if is_lazy(value) else value.numel() for value in module.parameters()]
    size = int(getattr(module, "num_features", 0) or max(sizes, default=0))
    return NormBehaviour(kind, (), 1, size)


def _configuration(module: nn.Module) -> tuple[object, ...]:
    """What makes two modules of one class the same: their numbers and the shapes of their tensors."""
    parts: list[object] = []
    for name, inner in module.named_modules():
        any_width = _has_any_width(inner)
        numbers = tuple(
            (key, value if isinstance(value, bool | int | float | str | None) else id(value))
            for key, value in vars(inner).items()
            if key != "training"
            and not (key == "num_features" and any_width)
            and (isinstance(value, bool | int | float | str | None) or key == "forward")
        )
        tensors = tuple(
            (key, None if value is None else (str(value.dtype), value.dim() if any_width else _shape(value)))
            for key, value in (*inner._parameters.items(), *inner._buffers.items())
        )
        parts.append((name, type(inner), numbers, tensors))
    return tuple(parts)


def _shape(value: torch.Tensor) -> tuple[int, ...] | None:
    return None if is_lazy(value) else tuple(value.shape)


def _guesses(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """Inputs for a module that no pass reached: by its dimensions and by the sizes of its vectors."""
    if shape := getattr(module, "normalized_shape", None):
        yield (4, 3, *shape)
        yield (4, *shape, 3, 3)
        return
    values = [value for value in (*module.parameters(), *module.buffers()) if not is_lazy(value)]
    sizes = [value.numel() for value in values if value.dim()] or [8]
    size = int(getattr(module, "num_features", 0) or getattr(module, "num_channels", 0) or max(sizes))
    name = str(getattr(module, "original_name", type(module).__name__))
    dims = next((int(digit) for digit in "123" if f"{digit}d" in name), None)
    if dims:
        yield (4, size, *[3] * dims)
    if dims in (None, 1):
        yield from ((4, size, 3, 3), (4, 3, size), (4, size), (4, size, 3), (4, 3, 3, size))
