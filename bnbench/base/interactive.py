"""Code of a notebook or a prompt, which no file holds: identified by its bytecode, as a file by its content."""

from __future__ import annotations

import hashlib
import pickle
import secrets
import sys
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from bnbench.base.own_modules import file_of

#: Values that are their own text.
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def is_interactive(factory: Any) -> bool:
    """Whether it was defined where no file can be imported again: in a notebook, at a prompt, by `python -c`."""
    module = sys.modules.get(getattr(factory, "__module__", None) or "")
    return module is not None and module.__name__ == "__main__" and file_of(module) is None


def digest(factories: Iterable[Any]) -> str:
    """The digest of their code, and of every function, class and plain value of the same place that it names.

    A value that can't be inspected gives a new digest every time: rather one training too many than one too few.
    """
    known: dict[str, None] = {}
    seen: set[int] = set()
    for factory in factories:
        known |= dict.fromkeys(_texts(factory, seen))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def _texts(value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, _PLAIN):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        yield from _of_function(value, seen)
    elif isinstance(value, type):
        yield f"class {value.__qualname__}"
        if value.__module__ == "__main__":
            for inner in (
                *value.__bases__,
                *(vars(value)[name] for name in sorted(vars(value)) if _counts(name)),
            ):
                yield from _texts(inner, seen)
    elif isinstance(value, ModuleType):
        yield f"module {value.__name__}"
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item, seen)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*_texts(key, seen), *_texts(item, seen))
    elif isinstance(value, staticmethod | classmethod):
        yield from _texts(value.__func__, seen)
    elif isinstance(value, property):
        yield from (text for part in (value.fget, value.fset) for text in _texts(part, seen))
    else:
        yield _of_object(value)


def _of_object(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    if isinstance(value, BuiltinFunctionType) or (name and value.__module__ not in (None, "__main__")):
        return f"{value.__module__}.{name}"
    try:
        return hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:  # whatever its own code raises
        return secrets.token_hex(8)


def _of_function(function: FunctionType, seen: set[int]) -> Iterator[str]:
    if function.__module__ != "__main__":
        yield f"{function.__module__}.{function.__qualname__}"
        return
    yield from _of_code(function.__code__)
    held = [function.__defaults__, function.__kwdefaults__]
    held += [cell.cell_contents for cell in function.__closure__ or ()]
    held += [function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__]
    for value in held:
        yield from _texts(value, seen)


def _of_code(code: CodeType) -> Iterator[str]:
    yield f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _names(code: CodeType) -> Iterator[str]:
    """Of globals that it may look up, also in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _counts(name: str) -> bool:
    """Whether it is a member of the class itself, and not one that Python adds to every class."""
    return name not in ("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__")
