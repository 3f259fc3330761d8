"""Places where a network holds its modules beside their names: plain lists, tuples, dictionaries, attributes, and
functions that keep a module: `functools.partial`, a lambda.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import CellType, FunctionType
from typing import Any

import torch
from torch import nn

#: Of a container, and the key of a module in it.
Reference = tuple[Any, Any]
_DEPTH = 3


def held_beside(model: nn.Module) -> list[tuple[str, str, str]]:
    """What the network holds beside its names: the place, the attribute, and the first name of the module held.

    The name is the class where the module has no name in the network.
    """
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        names.setdefault(id(module), name)
    own = set(vars(nn.Module()))
    return [
        (place, attribute, names.get(id(held), type(held).__name__))
        for place, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for attribute in list(vars(module))
        if attribute not in own and attribute != "norm"
        for held, _ in _held(vars(module), attribute, _DEPTH)
    ]


class References:
    """Where each module is held, apart from its owners' children."""

    def __init__(self, model: nn.Module) -> None:
        self._places: dict[int, list[Reference]] = {}
        own = set(vars(nn.Module()))
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for name in [name for name in vars(module) if name not in own and name != "norm"]:
                for held, place in _held(vars(module), name, _DEPTH):
                    self._places.setdefault(id(held), []).append(place)

    def exchange(self, old: nn.Module, new: nn.Module) -> int:
        """Put the new module everywhere. Returns in how many places."""
        places = self._places.get(id(old), [])
        for container, key in places:
            if isinstance(container, CellType):
                container.cell_contents = new
                continue
            value = container[key]
            if isinstance(value, partial):
                _exchange_in(value, old, new)
            else:
                container[key] = _with(value, old, new) if isinstance(value, tuple) else new
        return len(places)


def _content(cell: CellType) -> Any:
    """None where it has none yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _with(values: tuple[Any, ...], old: nn.Module, new: nn.Module) -> tuple[Any, ...]:
    return tuple(new if item is old else item for item in values)


def _exchange_in(function: partial[Any], old: nn.Module, new: nn.Module) -> None:
    """In what a partial function calls, and in its arguments."""
    called, *arguments = _with((function.func, *function.args), old, new)
    named = dict(zip(function.keywords, _with(tuple(function.keywords.values()), old, new), strict=True))
    function.__setstate__((called, tuple(arguments), named, vars(function)))  # type: ignore[attr-defined]


def _held(container: Any, key: Any, depth: int) -> Iterator[tuple[nn.Module, Reference]]:
    value = container[key]
    if isinstance(value, nn.Module):
        yield value, (container, key)
    elif isinstance(value, tuple):
        yield from ((item, (container, key)) for item in value if isinstance(item, nn.Module))
    elif isinstance(value, FunctionType):
        cells = (cell for cell in value.__closure__ or () if isinstance(_content(cell), nn.Module))
        yield from ((_content(cell), (cell, None)) for cell in cells)
    elif isinstance(value, partial):
        parts = (value.func, *value.args, *value.keywords.values())
        yield from ((item, (container, key)) for item in parts if isinstance(item, nn.Module))
    elif isinstance(value, list | dict) and depth:
        for inner in range(len(value)) if isinstance(value, list) else list(value):
            yield from _held(value, inner, depth - 1)
