"""From living objects to a description in JSON and a table of tensors: `read` puts both back into living objects.

An object is described by its attributes, each by its kind; what is met again is a reference. No code is written: where
a run goes on, its network and optimizer are built as always, and then filled.
"""

from __future__ import annotations

import base64
import random
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.engine.state.kinds import (
    BIT_GENERATORS,
    OF_TORCH,
    PLAIN,
    Unchanged,
    Unkeepable,
    attributes,
    base_of,
    is_code,
    recomputed,
    said,
)
from bnbench.engine.state.overlaps import Overlaps

#: Dtypes that a .safetensors file has.
_DTYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
        torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64,
        torch.float8_e4m3fn, torch.float8_e5m2,
    }
)  # fmt: skip


class Writer:
    """Describes objects. found: by their places, objects that a state can't make, only fill.

    start: what was found where the run began; None at the start itself. keeps_grad: whether the gradient of a parameter
    outlives a step. tensors: the table.
    """

    def __init__(
        self,
        start: Mapping[str, Any] | None = None,
        keeps_grad: Callable[[Tensor], bool] = lambda tensor: False,
    ) -> None:
        self.start, self.keeps_grad = start, keeps_grad
        self.found: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.overlaps = Overlaps()
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []

    def node(self, value: Any, path: str) -> Any:
        """The description of a value. Raises Unkeepable, which names the place."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if (number := self._numbers.get(id(value))) is not None:
            return ["@", number]
        if kind in _WRITERS:
            return _WRITERS[kind](self, value, path)
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if is_code(value):
            return self._same(value, path)
        if base_of(kind) is not None:
            return self._object(value, path)
        raise Unkeepable(f"{said(path)} is a {kind.__module__}.{kind.__qualname__}, which no file can hold")

    def _number(self, value: Any) -> int:
        self._alive.append(value)
        return self._numbers.setdefault(id(value), len(self._numbers))

    def _same(self, value: Any, path: str) -> Any:
        """Of something that the run finds again: it must be what stood there at the start."""
        self._must_be_there(value, path)
        return ["same"]

    def _must_be_there(self, value: Any, path: str) -> None:
        self.found[path] = value
        if self.start is None:
            return
        before = self.start.get(path)
        if before is not value and not (is_code(value) and type(value) is type(before) and value == before):
            name = type(value).__qualname__
            raise Unkeepable(f"{said(path)} holds another {name} than at the start of the run")

    def _tensor(self, value: Tensor, path: str) -> Any:
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.is_quantized:
            raise Unkeepable(f"{said(path)} is a {type(value).__qualname__} of layout {value.layout}")
        if value.grad_fn is not None:
            raise Unkeepable(f"{said(path)} is a tensor with a history, which ties it to an earlier step")
        if value.dtype not in _DTYPES:
            raise Unkeepable(f"{said(path)} is a tensor of {value.dtype}")
        number, facts = self._number(value), dict[str, Any]()
        self.overlaps.add(value, path)
        flags = {
            "parameter": isinstance(value, nn.Parameter),
            "grads": value.requires_grad,
            "inference": value.is_inference(),
            "elsewhere": value.device.type != "cpu",
        }
        facts |= {name: True for name, flag in flags.items() if flag}
        if not value.is_contiguous():
            facts["strides"] = list(value.stride())
        if own := vars(value):
            facts["own"] = self._dict(own, f"{path}.<attributes>")
        if value.grad is not None and self.keeps_grad(value):
            facts["grad"] = self.node(value.grad, f"{path}.<grad>")
        self.tensors[path] = value.detach()
        return ["tensor", number, path, facts]

    def _list(self, value: list[Any], path: str) -> Any:
        return ["list", self._number(value), self._items(value, path)]

    def _tuple(self, value: tuple[Any, ...], path: str) -> Any:
        return ["tuple", self._items(value, path)]

    def _items(self, values: Any, path: str) -> list[Any]:
        return [self.node(item, f"{path}.{index}") for index, item in enumerate(values)]

    def _dict(self, value: Mapping[Any, Any], path: str) -> Any:
        number, pairs = self._number(value), []
        for index, (key, item) in enumerate(value.items()):
            name = key if isinstance(key, str | int) else f"<{index}>"
            pairs.append([self.node(key, f"{path}.<key {index}>"), self.node(item, f"{path}.{name}")])
        if isinstance(value, defaultdict):
            self._must_be_there(value, f"{path}.<dict>")
        return ["dict", number, type(value).__name__, pairs]

    def _set(self, value: set[Any] | frozenset[Any], path: str) -> Any:
        return ["set", self._number(value), type(value).__name__, self._items(value, path)]

    def _deque(self, value: deque[Any], path: str) -> Any:
        return ["deque", self._number(value), value.maxlen, self._items(value, path)]

    def _bytes(self, value: bytes | bytearray, path: str) -> Any:
        return ["bytes", type(value).__name__, base64.b64encode(value).decode()]

    def _named(self, value: torch.dtype | torch.device, path: str) -> Any:
        return [type(value).__name__, str(value).removeprefix("torch.")]

    def _generator(self, value: torch.Generator, path: str) -> Any:
        number = self._number(value)
        self.tensors[path] = value.get_state()
        return ["generator", number, path, value.device.type != "cpu"]

    def _array(self, value: np.ndarray[Any, Any], path: str) -> Any:
        try:
            self.tensors[path] = torch.from_numpy(np.array(value, order="C", copy=True))
        except TypeError:
            raise Unkeepable(f"{said(path)} is an array of {value.dtype}") from None
        if self.tensors[path].dtype not in _DTYPES:
            raise Unkeepable(f"{said(path)} is an array of {value.dtype}")
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        return ["array", self._number(value), path, "F" if fortran else "C"]

    def _numpy_generator(self, value: np.random.Generator, path: str) -> Any:
        kind = type(value.bit_generator).__name__
        if kind not in BIT_GENERATORS:
            raise Unkeepable(f"{said(path)} draws from {kind}")
        return ["numpy generator", self._number(value), kind, self.node(value.bit_generator.state, path)]

    def _random_state(self, value: np.random.RandomState, path: str) -> Any:
        return ["random state", self._number(value), self.node(value.get_state(legacy=False), path)]

    def _random(self, value: random.Random, path: str) -> Any:
        return ["random", self._number(value), self.node(value.getstate(), path)]

    def _function(self, value: types.FunctionType, path: str) -> Any:
        """What it keeps between its calls: the variables around it, its defaults and attributes."""
        self._must_be_there(value, path)
        number = self._number(value)
        cells = []
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                cells.append([self.node(cell.cell_contents, f"{path}.<{name}>")])
            except ValueError:  # nothing is in it yet
                cells.append([])
        parts = [value.__defaults__, value.__kwdefaults__, vars(value) or None]
        return ["function", number, cells, self._items(parts, f"{path}.<kept>")]

    def _method(self, value: types.MethodType, path: str) -> Any:
        self._must_be_there(value, path)
        return ["method", self.node(value.__self__, f"{path}.<self>")]

    def _partial(self, value: partial[Any], path: str) -> Any:
        self._must_be_there(value, path)
        parts = (value.func, value.args, value.keywords)
        return ["partial", self._number(value), self._items(parts, path)]

    def _object(self, value: Any, path: str) -> Any:
        self._must_be_there(value, path)
        number, skipped = self._number(value), set[str]()
        if isinstance(value, nn.Module):
            skipped = recomputed(value)
        pairs = [
            [name, self._attribute(name, item, f"{path}.{name}")]
            for name, item in attributes(value)
            if name not in skipped and not (name in OF_TORCH and _is_empty(item))
        ]
        kind, base = type(value), base_of(type(value))
        content = None if base is object else self._content(value, base, path)
        return ["object", number, f"{kind.__module__}.{kind.__qualname__}", pairs, content, sorted(skipped)]

    def _attribute(self, name: str, value: Any, path: str) -> Any:
        if "hooks" in name and isinstance(value, dict):
            # their keys are numbers that torch counts up in a process: the order counts
            return ["hooks", self._number(value), self._items(value.values(), path)]
        return self.node(value, path)

    def _content(self, value: Any, base: Any, path: str) -> Any:
        inside = f"{path}.<items>"
        return self._dict(dict(value), inside) if base is dict else self._list(list(value), inside)

    def _unchanged(self, value: Unchanged, path: str) -> Any:
        alone = Writer(None if self.start is None else self.start[f"{path}.<parts>"])
        node = alone.node(value.value, path)
        tensors = {name: tensor.clone() for name, tensor in alone.tensors.items()}
        self.found[f"{path}.<parts>"], self.found[path] = alone.found, (node, tensors)
        if self.start is not None:
            then, before = self.start[path]
            same = then == node and before.keys() == tensors.keys()
            if not same or not all(torch.equal(before[name], tensors[name]) for name in tensors):
                raise Unkeepable(f"{said(path)}, which the runs of a stack share, changes while they train")
        return ["same"]


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | set) and not value


_WRITERS: dict[type, Callable[[Writer, Any, str], Any]] = {
    list: Writer._list,
    tuple: Writer._tuple,
    torch.Size: lambda writer, value, path: ["size", list(value)],
    complex: lambda writer, value, path: ["complex", value.real, value.imag],
    torch.dtype: Writer._named,
    torch.device: Writer._named,
    torch.Generator: Writer._generator,
    np.ndarray: Writer._array,
    np.random.Generator: Writer._numpy_generator,
    np.random.RandomState: Writer._random_state,
    random.Random: Writer._random,
    deque: Writer._deque,
    types.FunctionType: Writer._function,
    types.MethodType: Writer._method,
    partial: Writer._partial,
    Unchanged: Writer._unchanged,
    **dict.fromkeys((dict, OrderedDict, defaultdict), Writer._dict),
    **dict.fromkeys((set, frozenset), Writer._set),
    **dict.fromkeys((bytes, bytearray), Writer._bytes),
    **{
        kind: lambda writer, value, path: ["scalar", value.dtype.name, value.item()]
        for kind in (np.bool_, np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64)
    },
}
