"""A model left as it was found: parameters, buffers, gradients, flags, hooks and attributes of its modules.

Inside a block, what bnbench itself changes is changed in place or by another storage, which torch counts; a change
through `.data` alone is seen where the outermost block ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnbench.base.process_state import left_as_found

#: Where torch keeps the hooks of a module.
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


@contextmanager
def untouched(model: nn.Module) -> Iterator[torch.device]:
    """Inside, a model may run, train and change; whatever happens, it and the process are as they were afterwards.

    Parameters, buffers and other tensors keep their objects, too. Gives the model's device.
    """
    device = device_of(model)
    outer = _active[-1] if _active else None
    with left_as_found(torch.device("cpu") if device.type == "meta" else device):
        before = Snapshot(model, outer)
        _active.append(before)
        try:
            yield device
        finally:
            _active.pop()
            before.restore(whole=outer is None)


#: The snapshots of the blocks that are entered, the innermost last: copies that an outer one has are not made again.
_active: list[Snapshot] = []


def device_of(model: nn.Module) -> torch.device:
    """Of its first parameter; the CPU without one."""
    parameter = next(iter(model.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device


class Snapshot:
    """Everything of a model that running or training it can change: the objects, and copies of the tensors."""

    def __init__(self, model: nn.Module, outer: Snapshot | None = None) -> None:
        """outer: another one, whose copies of tensors that did not change since are used again."""
        self._modules = list(model.modules())
        self._classes = [type(module) for module in self._modules]
        self._attributes = [dict(vars(module)) for module in self._modules]
        places = [value for module in self._modules for value in vars(module).values()]
        self._containers = [(place, place.copy()) for place in places if isinstance(place, dict | list | set)]
        self._generators = [
            (place, place.get_state()) for place in places if isinstance(place, torch.Generator)
        ]
        known = {} if outer is None else {id(kept.tensor): kept for kept in outer._tensors}
        self._tensors: list[_Kept] = [
            _Kept(tensor, known.get(id(tensor))) for tensor in _tensors(self._modules)
        ]

    def restore(self, *, whole: bool = True) -> None:
        """Put back the objects, then what was in them. whole: also where torch counted no change of a tensor."""
        for module, kind, attributes in zip(self._modules, self._classes, self._attributes, strict=True):
            if type(module) is not kind:  # a lazy module becomes another one when it first runs
                module.__class__ = kind
            own = vars(module)
            for name in [name for name in own if name not in attributes]:
                del own[name]
            own.update(attributes)
        for generator, state in self._generators:
            generator.set_state(state)
        for place, content in self._containers:
            place.clear()
            place.extend(content) if isinstance(place, list) else place.update(content)
        with torch.no_grad():
            for kept in self._tensors:
                kept.restore(whole)


def _tensors(modules: Iterable[nn.Module]) -> Iterable[Tensor]:
    """Parameters, buffers and other tensors that modules hold, each once."""
    found: dict[int, Tensor] = {}
    for module in modules:
        for place in (module._parameters, module._buffers, vars(module)):
            found |= {id(value): value for value in place.values() if isinstance(value, Tensor)}
    return found.values()


class _Kept:
    """A tensor, its storage and content, its flag, its gradient."""

    def __init__(self, tensor: Tensor, outer: _Kept | None = None) -> None:
        self.kind, self.lazy = type(tensor), is_lazy(tensor)  # lazy: its shape is not known yet
        self.tensor, self.data, self.version = tensor, tensor.data, _version(tensor)
        same = outer is not None and outer.is_unchanged()
        self.content: Tensor | None = (
            outer.content if outer and same else None if self.lazy else _copy(tensor)
        )
        self.needs_grad = tensor.requires_grad
        self.grad = _Kept(tensor.grad) if tensor.is_leaf and tensor.grad is not None else None

    def is_unchanged(self) -> bool:
        """Whether it has the same storage, and torch counted no change of it."""
        if self.lazy:  # it has no storage yet
            return False
        moved = self.tensor.dtype != self.data.dtype or self.tensor.data_ptr() != self.data.data_ptr()
        return not moved and self.version >= 0 and _version(self.tensor) == self.version

    def restore(self, whole: bool) -> None:
        tensor = self.tensor
        if self.lazy:
            if not is_lazy(tensor):
                tensor.data, tensor.__class__ = self.data, self.kind
            return
        if tensor.is_leaf:
            tensor.grad = None  # its dtype may be another one now
        if tensor.dtype != self.data.dtype or tensor.data_ptr() != self.data.data_ptr():
            tensor.data = self.data
        changed = whole or self.version < 0 or _version(tensor) != self.version
        if changed and self.content is not None and not _same(tensor, self.content):
            tensor.data.copy_(self.content)
        self.version = _version(tensor)
        if not tensor.is_leaf:
            return
        if tensor.requires_grad != self.needs_grad:
            tensor.requires_grad_(self.needs_grad)
        if self.grad is not None:
            self.grad.restore(whole)
            tensor.grad = self.grad.tensor


def _version(tensor: Tensor) -> int:
    """Torch's count of changes; -1 where it keeps none."""
    return -1 if is_lazy(tensor) or tensor.is_inference() else tensor._version


def _copy(tensor: Tensor) -> Tensor | None:
    return None if tensor.is_meta else tensor.detach().clone()


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same bits, NaN included."""
    return torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    whole = tensor.detach().contiguous()
    return whole.reshape(-1).view(torch.uint8) if whole.numel() else whole


def digest(model: nn.Module) -> str:
    """A hash of what `untouched` promises: tensors, gradients, flags, hooks, modules and plain attributes."""
    hashed = hashlib.sha256()
    for name, module in model.named_modules(remove_duplicate=False):
        hashed.update(f"{name} {type(module).__qualname__} {id(module)} {module.training}".encode())
        for place in _HOOKS:
            hashed.update(
                f"{place} {[id(hook) for hook in (vars(module).get(place) or {}).values()]}".encode()
            )
        for key, value in sorted(vars(module).items()):
            if isinstance(value, bool | int | float | str | None):
                hashed.update(f"{key}={value!r}".encode())
        places: dict[str, Any] = {**module._parameters, **module._buffers, **vars(module)}
        for key, tensor in sorted((key, value) for key, value in places.items() if isinstance(value, Tensor)):
            _hash_tensor(hashed, key, tensor)
            if tensor.is_leaf and tensor.grad is not None:
                _hash_tensor(hashed, f"{key}.grad", tensor.grad)
    return hashed.hexdigest()


def _hash_tensor(hashed: Any, name: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        hashed.update(f"{name} {id(tensor)} lazy".encode())
        return
    about = f"{name} {id(tensor)} {tensor.dtype} {tuple(tensor.shape)} {tensor.requires_grad} {tensor.device}"
    hashed.update(about.encode())
    if not tensor.is_meta:
        hashed.update(_bits(tensor.cpu()).numpy().data)
