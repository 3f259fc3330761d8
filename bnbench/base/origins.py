"""The user's own modules that define an object: a class, a function, a built network, and their contents."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from bnbench.base.own_modules import file_of, is_own, on_disk
from bnbench.base.reached import Module, module_named

#: How deep into lists, mappings and attributes of a built network to look.
_DEPTH = 4


def modules_behind(values: Iterable[Any]) -> list[Module]:
    """The user's modules that define these classes, functions and modules, or those that they hold."""
    modules: dict[str, Module] = {}
    seen: set[int] = set()
    for value in values:
        _look(value, _DEPTH, modules, seen)
    return list(modules.values())


def _look(value: Any, depth: int, modules: dict[str, Module], seen: set[int]) -> None:
    if depth < 0 or id(value) in seen or isinstance(value, str | bytes | int | float | None):
        return
    seen.add(id(value))
    for inner in _inside(value, modules):
        _look(inner, depth - 1, modules, seen)


def _inside(value: Any, modules: dict[str, Module]) -> Iterator[Any]:
    """Note the module of a value. Returns the values that it holds."""
    if isinstance(value, ModuleType):
        _note(getattr(value, "__name__", ""), file_of(value), modules)
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, FunctionType):
        _note(value.__module__, value.__code__.co_filename, modules)
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_full(cell))
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        yield getattr(value, "__wrapped__", None)
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, type):
        for kind in inspect.getmro(value):
            _note(kind.__module__, _file_of_class(kind), modules)
    elif isinstance(value, Mapping):
        yield from list(dict.values(value)) if isinstance(value, dict) else ()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from list(value)[:10_000]
    elif type(value).__module__ != "bnbench.base.registry":  # which holds the factories of all plugins
        yield type(value)
        state = getattr(value, "__dict__", None)
        yield from list(state.values()) if isinstance(state, dict) else ()


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _file_of_class(kind: type) -> str | None:
    for member in vars(kind).values():
        if isinstance(member, FunctionType) and member.__module__ == kind.__module__:
            return member.__code__.co_filename
    module = sys.modules.get(kind.__module__)
    return file_of(module) if isinstance(module, ModuleType) else None


def _note(name: Any, file: str | None, modules: dict[str, Module]) -> None:
    file = on_disk(file)
    if not isinstance(name, str) or not file or not is_own(file):
        return
    loaded = module_named(name)
    same = loaded is not None and os.path.realpath(loaded.file) == os.path.realpath(file)
    modules.setdefault(os.path.realpath(file), loaded if same and loaded else Module(Path(file).name, file))
