"""From a description and a table of tensors back into living objects (see `write`).

Objects that are there already are filled, so that whoever holds them sees the state; what is not there is made, where
it is data. No code is found or called by a name from a file.
"""

from __future__ import annotations

import base64
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.engine.state.kinds import BIT_GENERATORS, OF_TORCH, PLAIN, WrongState

#: Nothing stands at this place.
MISSING: Any = object()


class Reader:
    """Fills objects. tensors: the table. device: of tensors that were on no CPU and are not there yet."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.tensors, self.device = tensors, device
        self._objects: dict[int, Any] = {}
        self._used: set[int] = set()

    def value(self, node: Any, live: Any = MISSING) -> Any:
        """What the description says; `live`, filled, where that is possible. Raises WrongState."""
        if type(node) in PLAIN:
            return node
        kind, *parts = node
        if kind == "@":
            return self._objects[parts[0]]
        return _READERS[kind](self, parts, live)

    def _kept(self, number: int, made: Any) -> Any:
        """Later references mean this one; it is not filled twice."""
        self._objects[number] = made
        self._used.add(id(made))
        return made

    def _is_free(self, live: Any, kind: type) -> bool:
        return type(live) is kind and id(live) not in self._used

    def _same(self, parts: list[Any], live: Any) -> Any:
        if live is MISSING:
            raise WrongState("code that the state refers to is not there")
        return live

    def _tensor(self, parts: list[Any], live: Any) -> Any:
        number, path, facts = parts
        value = self.tensors[path]
        if self._is_free(live, nn.Parameter if facts.get("parameter") else Tensor) and _fits(
            live, value, facts
        ):
            made = live
        else:
            made = self._kept_apart(value, facts)
        self._kept(number, made)
        with _mode(facts), torch.no_grad():
            made.copy_(value)
        grads = bool(facts.get("grads"))
        if made.requires_grad != grads:
            made.requires_grad_(grads)
        if "own" in facts:
            self.value(facts["own"], vars(made))
        made.grad = self.value(facts["grad"], MISSING) if "grad" in facts else None
        return made

    def _kept_apart(self, value: Tensor, facts: Mapping[str, Any]) -> Tensor:
        """A new tensor of the shape, dtype and strides of the old one."""
        device = self.device if facts.get("elsewhere") else torch.device("cpu")
        with _mode(facts):
            if "strides" in facts:
                made = torch.empty_strided(value.shape, facts["strides"], dtype=value.dtype, device=device)
            else:
                made = torch.empty_like(value, device=device)
        return nn.Parameter(made, requires_grad=False) if facts.get("parameter") else made

    def _list(self, parts: list[Any], live: Any) -> Any:
        number, nodes = parts
        made = self._kept(number, live if self._is_free(live, list) else [])
        made[:] = self._values(nodes, list(made))
        return made

    def _tuple(self, parts: list[Any], live: Any) -> Any:
        before = live if type(live) is tuple else ()
        values = self._values(parts[0], before)
        same = len(values) == len(before) and all(a is b for a, b in zip(values, before, strict=True))
        return before if same and before else tuple(values)

    def _values(self, nodes: list[Any], live: Any) -> list[Any]:
        return [self.value(node, live[i] if i < len(live) else MISSING) for i, node in enumerate(nodes)]

    def _dict(self, parts: list[Any], live: Any) -> Any:
        number, name, pairs = parts
        kind = OrderedDict if name == "OrderedDict" else dict
        there = type(live).__name__ == name and isinstance(live, dict) and id(live) not in self._used
        if not there and name == "defaultdict":
            raise WrongState("a defaultdict that the state fills is not there")
        made = self._kept(number, live if there else kind())
        keys, found = list(made), {}
        for index, (key_node, node) in enumerate(pairs):
            key = self.value(key_node, keys[index] if index < len(keys) else MISSING)
            found[key] = self.value(node, made.get(key, MISSING))
        if list(found) != keys or any(made[key] is not item for key, item in found.items()):
            made.clear()
            made.update(found)
        return made

    def _hooks(self, parts: list[Any], live: Any) -> Any:
        number, nodes = parts
        if not isinstance(live, dict) or len(live) != len(nodes):
            raise WrongState("hooks that the state refers to are not there")
        made = self._kept(number, live)
        for key, value in zip(list(made), self._values(nodes, list(made.values())), strict=True):
            made[key] = value
        return made

    def _set(self, parts: list[Any], live: Any) -> Any:
        number, name, nodes = parts
        values = self._values(nodes, list(live) if isinstance(live, set | frozenset) else [])
        if name == "frozenset":
            return self._kept(number, frozenset(values))
        made = self._kept(number, live if self._is_free(live, set) else set())
        made.clear()
        made.update(values)
        return made

    def _deque(self, parts: list[Any], live: Any) -> Any:
        number, longest, nodes = parts
        there = self._is_free(live, deque) and live.maxlen == longest
        made = self._kept(number, live if there else deque(maxlen=longest))
        values = self._values(nodes, list(made))
        made.clear()
        made.extend(values)
        return made

    def _bytes(self, parts: list[Any], live: Any) -> Any:
        value = base64.b64decode(parts[1])
        return bytearray(value) if parts[0] == "bytearray" else value

    def _dtype(self, parts: list[Any], live: Any) -> Any:
        found = getattr(torch, parts[0])
        if not isinstance(found, torch.dtype):
            raise WrongState(f"{parts[0]} is no dtype")
        return found

    def _generator(self, parts: list[Any], live: Any) -> Any:
        number, path, elsewhere = parts
        there = self._is_free(live, torch.Generator)
        made = live if there else torch.Generator(self.device if elsewhere else "cpu")
        made.set_state(self.tensors[path])
        return self._kept(number, made)

    def _array(self, parts: list[Any], live: Any) -> Any:
        number, path, order = parts
        value = self.tensors[path].numpy()
        if self._is_free(live, np.ndarray) and live.shape == value.shape and live.dtype == value.dtype:
            if live.flags.writeable:
                np.copyto(live, value)
                return self._kept(number, live)
        return self._kept(number, np.array(value, order=order, copy=True))

    def _scalar(self, parts: list[Any], live: Any) -> Any:
        return np.dtype(parts[0]).type(parts[1])

    def _numpy_generator(self, parts: list[Any], live: Any) -> Any:
        number, kind, node = parts
        if kind not in BIT_GENERATORS:
            raise WrongState(f"{kind} is no bit generator")
        there = self._is_free(live, np.random.Generator) and type(live.bit_generator).__name__ == kind
        made = live if there else np.random.Generator(getattr(np.random, kind)())
        made.bit_generator.state = self.value(node)
        return self._kept(number, made)

    def _random_state(self, parts: list[Any], live: Any) -> Any:
        made = live if self._is_free(live, np.random.RandomState) else np.random.RandomState()
        made.set_state(self.value(parts[1]))
        return self._kept(parts[0], made)

    def _random(self, parts: list[Any], live: Any) -> Any:
        made = live if self._is_free(live, random.Random) else random.Random()
        made.setstate(self.value(parts[1]))
        return self._kept(parts[0], made)

    def _function(self, parts: list[Any], live: Any) -> Any:
        number, cells, kept = parts
        function = self._kept(number, self._same(parts, live))
        for node, cell in zip(cells, function.__closure__ or (), strict=True):
            if node:
                cell.cell_contents = self.value(node[0], _content_of(cell))
        defaults, keywords, own = (function.__defaults__, function.__kwdefaults__, vars(function))
        self.value(kept[0], defaults), self.value(kept[1], keywords)
        if kept[2] is not None:
            self.value(kept[2], own)
        return function

    def _method(self, parts: list[Any], live: Any) -> Any:
        method = self._same(parts, live)
        self.value(parts[0], method.__self__)
        return method

    def _partial(self, parts: list[Any], live: Any) -> Any:
        made = self._kept(parts[0], self._same(parts, live))
        self._values(parts[1], (made.func, made.args, made.keywords))
        return made

    def _object(self, parts: list[Any], live: Any) -> Any:
        number, name, pairs, content, skipped = parts
        kind = type(live)
        if live is MISSING or f"{kind.__module__}.{kind.__qualname__}" != name:
            raise WrongState(f"an object of {name} is not there")
        made = self._kept(number, live)
        places = vars(made) if hasattr(made, "__dict__") else {}
        for key, node in pairs:
            before = places[key] if key in places else getattr(made, key, MISSING)
            item = self.value(node, before)
            if key in places or not _is_slot(kind, key):
                places[key] = item
            elif before is not item:
                object.__setattr__(made, key, item)
        stay = {key for key, _ in pairs} | set(skipped)
        for key in [key for key in places if key not in stay]:
            if key in OF_TORCH and isinstance(made, nn.Module):
                places[key].clear()  # an empty one is not written
            else:
                del places[key]
        if content is not None:
            self._fill(made, content)
        return made

    def _fill(self, made: Any, content: Any) -> None:
        """The items of an object that is a dict or a list as well."""
        if isinstance(made, dict):
            found = self.value(content, dict(made))
            dict.clear(made)
            dict.update(made, found)
        else:
            list.__setitem__(made, slice(None), self.value(content, list(made)))


def _fits(live: Tensor, value: Tensor, facts: Mapping[str, Any]) -> bool:
    """Whether a tensor can take the values without a change of its shape or layout."""
    alike = live.shape == value.shape and live.dtype == value.dtype and live.grad_fn is None
    strides = facts.get("strides")
    laid_out = live.is_contiguous() if strides is None else list(live.stride()) == strides
    return alike and laid_out and live.is_inference() == bool(facts.get("inference"))


def _mode(facts: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """A tensor that was made in inference mode is made there again."""
    return torch.inference_mode(bool(facts.get("inference")))


def _content_of(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def _is_slot(kind: type, key: str) -> bool:
    return any(key in getattr(each, "__slots__", ()) for each in kind.__mro__)


_READERS: dict[str, Callable[[Reader, list[Any], Any], Any]] = {
    "same": Reader._same,
    "tensor": Reader._tensor,
    "list": Reader._list,
    "tuple": Reader._tuple,
    "dict": Reader._dict,
    "hooks": Reader._hooks,
    "set": Reader._set,
    "deque": Reader._deque,
    "bytes": Reader._bytes,
    "size": lambda reader, parts, live: torch.Size(parts[0]),
    "complex": lambda reader, parts, live: complex(*parts),
    "dtype": Reader._dtype,
    "device": lambda reader, parts, live: torch.device(parts[0]),
    "generator": Reader._generator,
    "array": Reader._array,
    "scalar": Reader._scalar,
    "numpy generator": Reader._numpy_generator,
    "random state": Reader._random_state,
    "random": Reader._random,
    "function": Reader._function,
    "method": Reader._method,
    "partial": Reader._partial,
    "object": Reader._object,
}
