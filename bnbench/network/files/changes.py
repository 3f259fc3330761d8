"""What was done to a network, as a list of changes from the network that its source builds; and the same done again.

A change is a JSON object with the `place` of a module and what was done there:
    {"module": {...}}: another module stands there, by its description (parts.py); with "new": where none stood.
    {"same_as": name}: the module of that name stands there, too.
    {"removed": true}: the module is gone.
    {"zero_point": true}: the convolution pads with a value for each channel (fold/padding.py).
    {"parameter": name, "shape": [...] or null}: a parameter came, has another shape, or went. So with "buffer".
    {"attribute": name, "value": ...}: a plain value, such as an eps, is another one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.network.convert.carrying import move_attributes, move_hooks
from bnbench.network.convert.placed import norm_of
from bnbench.network.convert.references import References
from bnbench.network.files.parts import (
    MOST_VALUES,
    PLAIN,
    Allowed,
    NotDescribed,
    build,
    describe,
    plain,
    unplain,
)
from bnbench.network.fold.padding import ZERO_POINT_CLASSES as _CLASSES
from bnbench.network.fold.padding import with_zero_point
from bnbench.norms.owner import made_as, recipe_of

Change = Mapping[str, Any]
#: What every module has from torch, and how bnbench made it.
_NOT_COMPARED = frozenset({*vars(nn.Module()), "bnbench_norm", "bnbench_recipe"})
_TENSORS = (("parameter", "_parameters"), ("buffer", "_buffers"))
#: More dimensions than any tensor of a layer has: a file that says so is not ours.
_MOST_DIMENSIONS = 16


def differences(before: nn.Module, after: nn.Module, allowed: Allowed | None = None) -> tuple[Change, ...]:
    """The changes that make `before` what `after` is, apart from the values of its tensors. Raises NotDescribed."""
    return tuple(_Walk(allowed or Allowed()).compare(before, after, ""))


class _Walk:
    """Two networks side by side. places: where each module of the second stood first, and its partner."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self.places: dict[int, tuple[str, nn.Module]] = {}

    def compare(self, before: nn.Module | None, after: nn.Module, place: str) -> Iterator[Change]:
        if (first := self.places.get(id(after))) is not None:
            if before is not first[1]:
                yield {"place": place, "same_as": first[0]}
            return
        made = before
        if before is not None and _CLASSES.get(type(before)) is type(after):
            yield {"place": place, "zero_point": True}
        elif before is None or not _is_like(before, after):
            try:
                described = describe(after, before)
            except NotDescribed as error:
                raise NotDescribed(f"{place or 'the network'}: {error}") from None
            made = build(described, place, before, self.allowed)
            yield {"place": place, "module": described, **({"new": True} if before is None else {})}
        assert made is not None
        self.places[id(after)] = place, made
        yield from _own(made, after, place)
        yield from self._children(made, after, place)

    def _children(self, before: nn.Module, after: nn.Module, place: str) -> Iterator[Change]:
        old, new = before._modules, after._modules
        for name, child in new.items():
            inside = f"{place}.{name}" if place else name
            if child is None:
                if old.get(name) is not None:
                    yield {"place": inside, "removed": True}
            else:
                yield from self.compare(old.get(name), child, inside)
        kept = [name for name in old if name in new]
        for name in old:
            if name not in new:
                yield {"place": f"{place}.{name}" if place else name, "removed": True}
        if kept != [name for name in new if name in old] or list(new)[: len(kept)] != kept:
            raise NotDescribed(f"{place or 'the network'}: its modules stand in another order")


def _is_like(before: nn.Module, after: nn.Module) -> bool:
    """Whether one module can become the other by changes of what it holds."""
    layers = norm_of(before), norm_of(after)
    same = type(before) is type(after) and type(layers[0]) is type(layers[1])
    return same and recipe_of(layers[0]) == recipe_of(layers[1])


def _own(before: nn.Module, after: nn.Module, place: str) -> Iterator[Change]:
    """Parameters, buffers and plain attributes of one module."""
    for word, where in _TENSORS:
        old, new = vars(before)[where], vars(after)[where]
        for name in dict.fromkeys([*old, *new]):
            had, has = old.get(name), new.get(name)
            if name not in new or _shape(had) != _shape(has) or name not in old:
                yield {"place": place, word: name, "shape": _shape(has)}
    old, new = _attributes(before), _attributes(after)
    for name, value in new.items():
        if name not in old or old[name] != value or type(old[name]) is not type(value):
            yield {"place": place, "attribute": name, "value": value}


def _shape(tensor: Tensor | None) -> list[int] | None:
    return None if tensor is None else list(tensor.shape)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Public attributes of plain values, as JSON holds them."""
    values: dict[str, Any] = {}
    for name, value in [*vars(norm_of(module)).items(), *vars(module).items()]:
        if name in _NOT_COMPARED or name.startswith("_"):
            continue
        if isinstance(value, PLAIN) or (
            isinstance(value, tuple | list) and all(isinstance(item, PLAIN) for item in value)
        ):
            values[name] = plain(value)
    return values


def apply(changes: Sequence[Change], model: nn.Module, allowed: Allowed | None = None) -> nn.Module:
    """Do them to a network, in place. Returns it, or the module that replaces all of it. Raises BnbenchError.

    allowed: what a new module may be.
    """
    allowed, references = allowed or Allowed(), References(model)
    for change in changes:
        if not isinstance(change, Mapping) or not isinstance(change.get("place"), str):
            raise BnbenchError(f"{change!r} is no change of a network.")
        place = change["place"]
        try:
            if "module" in change:
                model = _replace(model, place, change, allowed, references)
            elif "same_as" in change:
                model = _put(model, place, model.get_submodule(str(change["same_as"])), True)
            elif "zero_point" in change:
                _pad_with_values(model.get_submodule(place))
            elif change.get("removed") is True:
                _remove(model, place)
            elif "attribute" in change:
                _set(model.get_submodule(place), str(change["attribute"]), change.get("value"))
            else:
                _allocate(model.get_submodule(place), change)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            text = str(error).partition("\n")[0]
            raise BnbenchError(f"{place or 'the network'}: the change can't be made: {text}") from error
    return model


def _replace(
    model: nn.Module, place: str, change: Change, allowed: Allowed, references: References
) -> nn.Module:
    """Another module by its description. A normalizer gets the hooks and attributes of the one before it."""
    owner, _, name = place.rpartition(".")
    before = (
        (model.get_submodule(owner)._modules.get(name) if place else model) if "new" not in change else None
    )
    module = build(change["module"], place or "the network", before, allowed)
    if before is not None and made_as(module) is not None:
        move_hooks(before, module)
        move_attributes(before, module, tuple(getattr(module, "then", ())))
    if before is not None:
        references.exchange(before, module)
    return _put(model, place, module, "new" in change)


def _pad_with_values(module: nn.Module) -> None:
    if type(module) not in _CLASSES:
        raise BnbenchError(f"{type(module).__name__} is no convolution.")
    with_zero_point(module)


def _put(model: nn.Module, place: str, module: nn.Module, new: bool) -> nn.Module:
    if not place:
        return module
    owner, _, name = place.rpartition(".")
    held = model.get_submodule(owner)._modules
    if any(inner._modules is held for inner in module.modules()):
        raise BnbenchError(f"{place}: the network would hold itself.")
    if not new and name not in held:
        raise BnbenchError(f"{place}: the network has no such module.")
    if isinstance(old := held.get(name), nn.Module):
        module.train(old.training)
    held[name] = module
    return model


def _remove(model: nn.Module, place: str) -> None:
    owner, _, name = place.rpartition(".")
    held = model.get_submodule(owner)
    if name not in held._modules:
        raise BnbenchError(f"{place}: there is no such module.")
    if isinstance(held, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        del held._modules[name]
    else:
        held._modules[name] = None


def _set(module: nn.Module, name: str, value: object) -> None:
    """Only a plain value in the place of one, or under a new name: no method or module is written over."""
    held = next((vars(m) for m in (module, norm_of(module)) if name in vars(m)), vars(module))
    value = unplain(value)
    if not name.isidentifier() or name.startswith("_") or (name not in held and hasattr(module, name)):
        raise BnbenchError(f"its attribute {name} can't be set.")
    old = held.get(name)
    if not isinstance(old, (*PLAIN, tuple, list)) or not isinstance(value, (*PLAIN, tuple)):
        raise BnbenchError(f"its attribute {name} is no plain value.")
    held[name] = list(value) if isinstance(old, list) and isinstance(value, tuple) else value


def _allocate(module: nn.Module, change: Change) -> None:
    """A parameter or buffer of that shape, without values: the file has them."""
    word, where = next(((w, p) for w, p in _TENSORS if w in change), ("", ""))
    if not word:
        raise BnbenchError(f"{dict(change)!r} is no change of a network.")
    name, shape = str(change[word]), change.get("shape")
    if not name.isidentifier():
        raise BnbenchError(f'"{name}" is no name of a {word}.')
    if shape is None:
        vars(module)[where][name] = None
        return
    sizes = shape if isinstance(shape, list) and len(shape) <= _MOST_DIMENSIONS else [-1]
    if not all(type(size) is int and size >= 0 for size in sizes) or math.prod(sizes) > MOST_VALUES:
        raise BnbenchError(f"{shape!r} is no shape.")
    other = next(
        (t for t in [*module._parameters.values(), *module._buffers.values()] if t is not None), None
    )
    dtype = other.dtype if other is not None and other.is_floating_point() else torch.get_default_dtype()
    # an address without memory: the tensor of the file takes its place
    empty = torch.empty(sizes, dtype=dtype, device="meta")
    vars(module)[where][name] = nn.Parameter(empty) if word == "parameter" else empty
