"""Every tensor that a layer holds, registered or not: in its modules, in lists and dicts, in plain objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

Kind = Literal["parameter", "buffer", "attribute"]
Step = tuple[Literal["attribute", "item"], Any]
_INTERNAL = frozenset(vars(nn.Module()))
_DEEPEST = 4


@dataclass(frozen=True)
class Part:
    """One tensor of a layer. steps: how to get there; kind: attribute is what torch does not know of."""

    steps: tuple[Step, ...]
    kind: Kind

    @property
    def path(self) -> str:
        """As Python writes it: running_mean, bn.weight, layers[0].weight."""
        words = (f".{key}" if access == "attribute" else f"[{key!r}]" for access, key in self.steps)
        return "".join(words).removeprefix(".")

    @property
    def name(self) -> str:
        """The last name on the way, in lower case; of a parametrized tensor its own."""
        names = [str(key) for _, key in self.steps if isinstance(key, str)]
        if names[-1:] == ["original"] and len(names) > 1:
            names.pop()
        return names[-1].strip("_").lower() if names else ""

    def read(self, layer: nn.Module) -> Any:
        """The current value. Raises AttributeError, KeyError or IndexError where the layer has none."""
        value: Any = layer
        for access, key in self.steps:
            value = getattr(value, key) if access == "attribute" else value[key]
        if value is None:
            raise AttributeError(f"{self.path} is None")
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    def vector(self, layer: nn.Module) -> Tensor:
        """The current value, flat, in float64, detached."""
        return torch.as_tensor(self.read(layer)).detach().double().flatten().clone()

    def write(self, layer: nn.Module, values: Tensor) -> None:
        """Put these numbers there, in place."""
        tensor = self.read(layer)
        with torch.no_grad():
            tensor.copy_(values.reshape(tensor.shape))


def tensors(layer: nn.Module) -> list[tuple[Part, Tensor]]:
    """Each tensor once, in the order of the modules."""
    return list(_of_module(layer, (), True, set(), 0))


def unregistered(layer: nn.Module) -> list[str]:
    """The places of unregistered modules with tensors: "self.norms (a list)"."""
    known = {id(module) for module in layer.modules()}
    places = []
    for module_path, module in layer.named_modules():
        for name, value in _own(module):
            inside = [inner for inner in _modules_in(value, 0) if id(inner) not in known]
            if any(_has_tensors(inner) for inner in inside):
                dot = f"{module_path}." if module_path else ""
                places.append(f"self.{dot}{name} ({type(value).__name__})")
    return places


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _modules_in(value: Any, depth: int) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, list | tuple | set | Mapping) and depth < _DEEPEST:
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _modules_in(item, depth + 1)


def _own(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in list(vars(module).items()) if name not in _INTERNAL]


Tensors = Iterator[tuple[Part, Tensor]]


def _of_module(
    module: nn.Module, steps: tuple[Step, ...], known: bool, seen: set[int], depth: int
) -> Tensors:
    if id(module) in seen or depth > 2 * _DEEPEST:
        return
    seen.add(id(module))
    registered: tuple[tuple[Kind, dict[str, Any]], ...] = (
        ("parameter", module._parameters),
        ("buffer", module._buffers),
    )
    for kind, table in registered:
        for name, tensor in table.items():
            if isinstance(tensor, Tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                yield Part((*steps, ("attribute", name)), kind if known else "attribute"), tensor
    for name, child in module._modules.items():
        if child is not None:
            yield from _of_module(child, (*steps, ("attribute", name)), known, seen, depth + 1)
    for name, value in _own(module):
        yield from _of_value(value, (*steps, ("attribute", name)), seen, depth + 1)


def _of_value(value: Any, steps: tuple[Step, ...], seen: set[int], depth: int) -> Tensors:
    if isinstance(value, Tensor | np.ndarray):
        if id(value) not in seen:
            seen.add(id(value))
            tensor = torch.from_numpy(value) if _is_numbers(value) else value
            if isinstance(tensor, Tensor):
                yield Part(steps, "attribute"), tensor
    elif isinstance(value, nn.Module):
        yield from _of_module(value, steps, False, seen, depth)
    elif depth < _DEEPEST and id(value) not in seen:
        seen.add(id(value))
        for access, key, item in _items(value):
            yield from _of_value(item, (*steps, (access, key)), seen, depth + 1)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype in (np.float64, np.float32, np.int64)


def _items(value: Any) -> list[tuple[Literal["attribute", "item"], Any, Any]]:
    if isinstance(value, list | tuple):
        return [("item", index, item) for index, item in enumerate(value[:100])]
    if isinstance(value, dict):
        return [("item", key, item) for key, item in list(value.items())[:100]]
    simple = isinstance(value, type) or callable(value) or not hasattr(value, "__dict__")
    if simple or type(value).__module__.partition(".")[0] in ("torch", "builtins", "numpy"):
        return []
    return [("attribute", name, item) for name, item in list(vars(value).items())[:100]]
