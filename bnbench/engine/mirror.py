"""A copy of a network that is brought up to date whenever it is asked for, which costs less than a new copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

#: What a module keeps beside its tensors and can't change in place.
_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.Size)
#: What every module has from torch.
_TORCHS_OWN = frozenset(vars(nn.Module()))


class Mirror:
    """A private copy of networks of one architecture, in the mode that they are in.

    A network whose layers keep more than tensors and plain values (a generator, a list) is copied each time.
    """

    def __init__(self, model: nn.Module) -> None:
        self._copy = copy.deepcopy(model)
        self._plain = all(_is_plain(module) for module in model.modules())

    def of(self, model: nn.Module) -> nn.Module:
        """The copy, as this model is now. It is used again by the next call."""
        if not self._plain:
            self._copy = copy.deepcopy(model)
            return self._copy
        pairs = list(zip(self._copy.modules(), model.modules(), strict=True))
        tensors = [pair for mine, theirs in pairs for pair in _tensors(mine, theirs)]
        with torch.no_grad():
            torch._foreach_copy_([mine for mine, _ in tensors], [theirs for _, theirs in tensors])
        for mine, theirs in pairs:
            own = vars(mine)
            own.update({name: value for name, value in vars(theirs).items() if isinstance(value, _PLAIN)})
        return self._copy


def _is_plain(module: nn.Module) -> bool:
    return all(
        isinstance(value, _PLAIN) or _is_frozen(value) or name in _TORCHS_OWN
        for name, value in vars(module).items()
    )


def _is_frozen(value: Any) -> bool:
    """Whether it is a tuple of plain values, a function or class, or a frozen dataclass of such."""
    if isinstance(value, tuple):
        return all(isinstance(item, _PLAIN) or _is_frozen(item) for item in value)
    parameters = getattr(type(value), "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return all(isinstance(item, _PLAIN) or _is_frozen(item) for item in vars(value).values())
    return isinstance(value, type) or type(value).__name__ in ("function", "builtin_function_or_method")


def _tensors(mine: nn.Module, theirs: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    for own, other in ((mine._parameters, theirs._parameters), (mine._buffers, theirs._buffers)):
        for name, value in other.items():
            tensor = own[name]
            if value is not None and tensor is not None:
                yield tensor.detach(), value.detach()
