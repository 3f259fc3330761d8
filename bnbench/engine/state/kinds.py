"""What a state can hold: plain data, tensors and generators in the attributes of Python objects."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import re
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn


class Unkeepable(Exception):
    """No state of a run can be kept. The text is the reason, for its notes."""


class WrongState(Exception):
    """A state does not fit the run that is to go on from it. The text is the reason."""


class Unchanged:
    """Something that all runs of a stack share: it is not in their states, and has to be as it was at the start."""

    def __init__(self, value: Any) -> None:
        self.value = value


#: Written as they are. JSON keeps floats to the last bit, NaN and infinities included.
PLAIN = frozenset({type(None), bool, int, float, str})
#: Never changed by anything: the new run has an equal one.
IMMUTABLE: tuple[type, ...] = (
    range, slice, type(Ellipsis), np.dtype, re.Pattern, enum.Enum, decimal.Decimal,
    datetime.date, datetime.timedelta, torch.memory_format, torch.layout, torch.qscheme,
)  # fmt: skip
#: Code: the new run has the same.
CODE: tuple[type, ...] = (
    type, types.ModuleType, types.BuiltinFunctionType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.MethodWrapperType, functools._lru_cache_wrapper, np.ufunc, weakref.ref,
)  # fmt: skip
#: Bit generators of NumPy.
BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
#: What every module has from torch.
OF_TORCH = frozenset(vars(nn.Module()))


class _Reference:
    """As small as an object of a Python class can be."""


def is_code(value: Any) -> bool:
    """Whether it is code or a constant, which a run finds again when it is built."""
    return isinstance(value, IMMUTABLE + CODE) or type(value).__module__ == "torch._ops"


def slots_of(kind: type) -> list[str]:
    """The names of the slots that its classes define."""
    return [
        name
        for each in kind.__mro__
        for name, value in vars(each).items()
        if isinstance(value, types.MemberDescriptorType)
    ]


def base_of(kind: type) -> type | None:
    """`object`, `dict` or `list` where everything that is in an object of this class is there and in its attributes.

    None where a part of it lies in C, where nobody can look.
    """
    if kind not in _bases:
        _bases[kind] = _base_of(kind)
    return _bases[kind]


_bases: dict[type, type | None] = {}


def _base_of(kind: type) -> type | None:
    slots = len(slots_of(kind))
    for base in (dict, list, object):
        if issubclass(kind, base):
            room = kind.__basicsize__ - base.__basicsize__ - 8 * slots
            is_python = bool(kind.__flags__ & (1 << 9)) and 0 <= room <= 16
            return base if is_python else None
    return None


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Of an object of a Python class, those in slots included."""
    if hasattr(value, "__dict__"):
        yield from list(vars(value).items())
    for name in slots_of(type(value)):
        if name not in ("__dict__", "__weakref__") and hasattr(value, name):
            yield name, getattr(value, name)


def recomputed(module: nn.Module) -> set[str]:
    """Attributes that torch's older weight_norm and spectral_norm, and its pruning, compute before every forward."""
    hooks = [
        vars(hook)
        for hook in module._forward_pre_hooks.values()
        if type(hook).__module__.startswith("torch.nn.utils.")
    ]
    return {hook[name] for hook in hooks for name in ("name", "_tensor_name") if name in hook}


def said(path: str) -> str:
    """A place for people: "model.blocks.0.counter"."""
    return re.sub(r"\._(modules|buffers|parameters)\.", ".", path).removeprefix(".").removeprefix("stepper.")
