"""What a user's code keeps outside of its objects: in variables of its module, in its classes, in defaults.

No state holds that, as it belongs to the process and not to a run. So where it changes while a run trains, no state of
that run is kept. Only files of users are looked at: installed packages keep caches, which change no number.
"""

from __future__ import annotations

import hashlib
import random
import site
import sys
import sysconfig
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bnbench
from bnbench.engine.state.kinds import PLAIN, Unkeepable, attributes, base_of
from bnbench.engine.state.write import Writer

#: Where no user's files are.
_INSTALLED = tuple(
    {
        str(Path(bnbench.__file__).parent),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        str(Path(torch.__file__).parent.parent),
    }
)  # fmt: skip
#: Looked into; of everything else the class alone counts.
_DATA = (list, tuple, deque, bytearray, complex)
_DRAWS = (np.ndarray, torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class Outside:
    """The data in the files of users that a run's objects come from.

    also: functions and classes that a run calls and no object of it refers to. objects: by their names, those that it
    calls and that no state fills.
    """

    def __init__(self, also: Iterable[Any] = (), objects: Mapping[str, Any] | None = None) -> None:
        self._also, self._objects = list(also), objects or {}
        self._places: dict[str, Mapping[str, Any]] = {}
        self.before: dict[str, str] = {}

    def begin(self, writers: Iterable[Writer]) -> None:
        """Note what is there now. writers: that have described the run's objects."""
        kinds = {type(value) for writer in writers for value in writer.found.values()}
        functions = {id(each): each for w in writers for each in w.found.values() if callable(each)}
        self._places = {}
        for each in [*kinds, *functions.values(), *self._also, *map(type, self._objects.values())]:
            for variables in _globals_of(each):
                self._add(variables)
        if self._places or self._objects:
            self.before = self._digests()

    def _add(self, variables: Mapping[str, Any]) -> None:
        file = variables.get("__file__")
        if not isinstance(file, str) or file in self._places or file.startswith(_INSTALLED):
            return
        self._places[file] = variables
        for value in list(variables.values()):
            if isinstance(value, types.ModuleType):
                self._add(vars(value))

    def check(self) -> None:
        """Raises Unkeepable where something has changed since."""
        if not self.before:
            return
        for name, digest in self._digests().items():
            if self.before.get(name) != digest:
                raise Unkeepable(f"{name} changes while the run trains, and lies outside of its network")

    def differs(self, kept: Mapping[str, str]) -> str:
        """What had another value where a state was kept; "" where nothing had."""
        names = [name for name in sorted({*kept, *self.before}) if kept.get(name) != self.before.get(name)]
        return names[0] if names else ""

    def _digests(self) -> dict[str, str]:
        found = {name: _digest(value) for name, value in self._objects.items()}
        for file, variables in self._places.items():
            for name, value in list(variables.items()):
                if not name.startswith("__"):
                    for place, held in _held(name, value, file):
                        found[f"{place} in {Path(file).name}"] = _digest(held)
        return found


def _globals_of(each: Any) -> Iterator[Mapping[str, Any]]:
    """The variables of the modules that a class, with its bases, or a function is written in."""
    if isinstance(each, type):
        for kind in each.__mro__:
            if (module := sys.modules.get(kind.__module__)) is not None:
                yield vars(module)
            for value in vars(kind).values():
                if isinstance(value, types.FunctionType):
                    yield value.__globals__
    elif isinstance(function := getattr(each, "func", getattr(each, "__func__", each)), types.FunctionType):
        yield function.__globals__


def _held(name: str, value: Any, file: str) -> Iterator[tuple[str, Any]]:
    """The data of a variable; of a class or function what it holds."""
    if isinstance(value, types.FunctionType):
        if value.__globals__.get("__file__") == file:
            yield name, _of_function(value)
    elif isinstance(value, type):
        if getattr(sys.modules.get(value.__module__), "__file__", None) == file or _is_defined_in(
            value, file
        ):
            for key, item in list(vars(value).items()):
                if isinstance(item, types.FunctionType):
                    yield f"{name}.{key}", _of_function(item)
                elif not key.startswith("__"):
                    yield f"{name}.{key}", item
    elif not isinstance(value, types.ModuleType):
        yield name, value


def _is_defined_in(kind: type, file: str) -> bool:
    functions = [value for value in vars(kind).values() if isinstance(value, types.FunctionType)]
    return any(each.__code__.co_filename == file for each in functions)


def _of_function(function: types.FunctionType) -> Any:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:
            cells.append(None)
    own = {key: value for key, value in vars(function).items() if key != "__wrapped__"}
    return [cells, function.__defaults__, function.__kwdefaults__, own]


def _digest(value: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, value, set())
    return digest.hexdigest()


def _feed(digest: Any, value: Any, seen: set[int]) -> None:
    kind = type(value)
    digest.update(kind.__qualname__.encode())
    if kind in PLAIN or kind is bytes:
        digest.update(repr(value).encode("utf-8", "backslashreplace"))
        return
    if kind is not tuple:
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, Tensor):
        _feed_tensor(digest, value)
    elif kind in (dict, OrderedDict, defaultdict):
        for key, item in list(value.items()):
            _feed(digest, key, seen)
            _feed(digest, item, seen)
    elif kind in (set, frozenset):  # in an order that is the same in every process
        for each in sorted(map(_digest, value)):
            digest.update(each.encode())
    elif kind in _DATA:
        for item in list(value) if kind is not complex else [value.real, value.imag]:
            _feed(digest, item, seen)
    elif kind in _DRAWS:
        _feed_draws(digest, value, seen)
    elif base_of(kind) is not None and not _is_installed(kind):
        for name, item in attributes(value):
            digest.update(name.encode())
            _feed(digest, item, seen)
        if isinstance(value, dict | list):
            _feed(digest, [*value.items()] if isinstance(value, dict) else list(value), seen)


def _is_installed(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return (
        kind.__module__ == "builtins"
        or file.startswith(_INSTALLED)
        or (issubclass(kind, nn.Module) and not file)
    )


def _feed_tensor(digest: Any, value: Tensor) -> None:
    if value.layout == torch.strided and not value.is_meta and value.dtype not in (torch.complex32,):
        whole = value.detach().cpu().contiguous().flatten()
        digest.update(whole.view(torch.uint8).numpy().tobytes() if whole.numel() else b"")
    digest.update(f"{tuple(value.shape)} {value.dtype}".encode())


def _feed_draws(digest: Any, value: Any, seen: set[int]) -> None:
    if isinstance(value, np.ndarray):
        digest.update(value.tobytes() if value.dtype != object else b"")
    elif isinstance(value, torch.Generator):
        _feed_tensor(digest, value.get_state())
    elif isinstance(value, random.Random):
        digest.update(repr(value.getstate()).encode())
    else:
        state = value.bit_generator.state if isinstance(value, np.random.Generator) else value.get_state()
        digest.update(repr(state).encode())
