"""A module described in JSON, and built again from that: bnbench's normalizers, and layers of `torch.nn` by name.

Nothing here imports what a description names: only the names of the registry and those of `LAYERS` are built.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.base.registry import Entry
from bnbench.network.convert.placed import Layout, PlacedNorm, norm_of
from bnbench.norms import norms
from bnbench.norms.norm_layer import NormLayer
from bnbench.norms.owner import made_as, mark, recipe_of
from bnbench.norms.place import Place
from bnbench.norms.tokens import TokenNorm

#: Layers of torch that a description may name. Each keeps the arguments that made it under their names.
LAYERS: Mapping[str, type[nn.Module]] = {
    layer.__name__: layer
    for layer in (
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
        *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        *(nn.Identity, nn.Sequential, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten),
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh),
        *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.PReLU),
        *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
    )
}
#: Arguments that say where a layer lies and how its values begin: the tensors of the file say that.
_NOT_KEPT = ("device", "dtype", "init", "process_group")
#: More values than any layer has.
MOST_VALUES = 2**40
PLAIN = (bool, int, float, str, type(None))


class NotDescribed(Exception):
    """A module or a value that no description can hold, in one sentence."""


def describe(module: nn.Module, before: nn.Module | None) -> dict[str, Any]:
    """What builds a module of the same class with the same shapes. Raises NotDescribed.

    before: what stood in its place, of which parts may be kept. Its children and its attributes may still differ from
    what is built: `differences` finds that.
    """
    if isinstance(module, PlacedNorm):
        inner = describe(norm_of(module), None)
        then = {name: describe(module.get_submodule(name), before) for name in module.then}
        return {"placed": inner, "layout": module.layout, "copies": module.copies, "then": then}
    if (made := recipe_of(module)) is not None:
        return _described_norm(*made)
    if type(module) is TokenNorm:
        flags = {"takes_mask": module.takes_mask, "whole_sequences": module.whole_sequences}
        return {"tokens": describe(module.layer, None), **flags}
    if name := _kept(module, before):
        return {"kept": name}
    layer = type(module)
    if LAYERS.get(layer.__name__) is not layer:
        raise NotDescribed(f"{layer.__module__}.{layer.__qualname__} is no layer of torch or of bnbench")
    if isinstance(module, nn.Sequential):
        parts = {key: describe(part, before) for key, part in module._modules.items() if part is not None}
        return {"torch": "Sequential", "parts": parts}
    return {"torch": layer.__name__, "arguments": _arguments(module)}


def _described_norm(
    name: str, num_features: int, dim: int, options: tuple[tuple[str, Any], ...], place: Place
) -> dict[str, Any]:
    described: dict[str, Any] = {"norm": name, "num_features": num_features, "dim": dim}
    if options:
        described["options"] = {key: plain(value) for key, value in options}
    if place != Place():
        described["place"] = dataclasses.asdict(place)
    return described


def _kept(module: nn.Module, before: nn.Module | None) -> str:
    """The name of a like module inside the one that stood here before, "" where there is none."""
    inside = before.named_modules() if before is not None else iter(())
    like = (name for name, inner in inside if type(inner) is type(module) and str(inner) == str(module))
    return next(filter(None, like), "")


def _arguments(module: nn.Module) -> dict[str, Any]:
    """The arguments that make such a layer, as it keeps them."""
    values: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name in ("self", *_NOT_KEPT) or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        if name == "bias":
            values[name] = module.bias is not None
        elif hasattr(module, name):
            values[name] = plain(getattr(module, name))
    return values


@dataclasses.dataclass(frozen=True)
class Allowed:
    """What a description may ask for. values: in a module's tensors. entries: normalizers beside the registry's."""

    values: int = MOST_VALUES
    entries: tuple[Entry, ...] = ()

    def norm(self, name: str) -> Entry:
        """The normalizer of that name. Raises UnknownNameError."""
        return next((entry for entry in self.entries if entry.name == name), None) or norms.get(name)


def build(
    described: object, place: str, before: nn.Module | None, allowed: Allowed | None = None
) -> nn.Module:
    """The module of a description. Raises BnbenchError for one that bnbench did not write.

    place: for messages. before: what stands there, of which copies of parts may be kept. allowed: its values are
    counted before any memory is taken.
    """
    allowed = allowed or Allowed()
    try:
        size = _size(described, before, allowed)
        if size > allowed.values:
            raise BnbenchError(f"its description asks for {size} values, and the file has {allowed.values}.")
        return _build(described, before, allowed)
    except BnbenchError as error:
        raise BnbenchError(f"{place}: {error.what}", error.why, error.fix) from error
    except Exception as error:  # arguments of the wrong type: whatever torch or a factory raises
        text = str(error).partition("\n")[0]
        raise BnbenchError(
            f"{place}: its description can't be built: {type(error).__name__}: {text}"
        ) from error


def _size(described: object, before: nn.Module | None, allowed: Allowed) -> int:
    """The values in its tensors, counted without memory; of a layer that can't be made so, its channels."""
    try:
        with torch.device("meta"):
            return sum(tensor.numel() for tensor in _build(described, before, allowed).state_dict().values())
    except BnbenchError:
        raise
    except Exception:
        channels = described.get("num_features") if isinstance(described, Mapping) else None
        return channels if isinstance(channels, int) else 0


def _build(described: object, before: nn.Module | None, allowed: Allowed) -> nn.Module:
    if not isinstance(described, Mapping):
        raise BnbenchError(f"{described!r} describes no layer.")
    if "placed" in described:
        then = {str(name): _build(part, before, allowed) for name, part in described.get("then", {}).items()}
        layout, copies = _text(described.get("layout")), bool(described.get("copies"))
        return placed(_build(described["placed"], None, allowed), layout, then, copies)
    if "norm" in described:
        entry = allowed.norm(_text(described["norm"]))
        place = Place(**described.get("place", {}))
        layer = NormLayer(entry, entry.typed(described.get("options", {})), place)
        return layer(described["num_features"], described["dim"])
    if "tokens" in described:
        inner = _build(described["tokens"], None, allowed)
        return TokenNorm(inner, bool(described.get("takes_mask")), bool(described.get("whole_sequences")))
    if "kept" in described:
        if before is None:
            raise BnbenchError("nothing stood there of which a part could be kept.")
        return copy.deepcopy(before.get_submodule(_text(described["kept"])))
    name = _text(described.get("torch"))
    if name not in LAYERS:
        raise BnbenchError(f'"{name}" is no layer that a file may name.')
    if name == "Sequential":
        made = nn.Sequential()
        for key, part in described.get("parts", {}).items():
            made.add_module(key, _build(part, before, allowed))
        return made
    arguments = {key: unplain(value) for key, value in described.get("arguments", {}).items()}
    return LAYERS[name](**arguments)


def placed(norm: nn.Module, layout: str, then: dict[str, nn.Module], copies: bool) -> PlacedNorm:
    """Raises BnbenchError for a layout that there is not."""
    if layout not in get_args(Layout):
        raise BnbenchError(f'"{layout}" is no layout.')
    outer = PlacedNorm(norm, layout, then, copies)  # type: ignore[arg-type]
    mark(outer, made_as(norm) or "")
    return outer


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def plain(value: object) -> Any:
    """A value as strict JSON holds it. Raises NotDescribed."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise NotDescribed(f"{value!r} can't be written to JSON")


def unplain(value: object) -> Any:
    """The value again; a list becomes a tuple, as layers keep sizes."""
    if isinstance(value, Mapping) and set(value) == {"float"}:
        return float(str(value["float"]))
    if isinstance(value, list):
        return tuple(unplain(item) for item in value)
    return value
