"""A copy of a network that is brought up to date whenever it is asked for, which costs less than a new copy."""

from __future__ import annotations

import copy
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
        self._plain = all(_is_plain(module) for module in model.modules())
        self._take(copy.deepcopy(model))

    def _take(self, copied: nn.Module) -> None:
        self.copy, modules = copied, list(copied.modules())
        #: Where each module keeps its parameters, buffers and other values, where it has any.
        self._tensors = [
            (index, name, places)
            for index, module in enumerate(modules)
            for name in ("_parameters", "_buffers")
            if (places := vars(module)[name])
        ]
        self._values = [
            (index, vars(module), own)
            for index, module in enumerate(modules)
            if (own := [name for name in vars(module) if name not in _TORCHS_OWN or name == "training"])
        ]

    def of(self, model: nn.Module) -> nn.Module:
        """The copy, as this model is now. It is used again by the next call."""
        if not self._plain:
            self._take(copy.deepcopy(model))
            return self.copy
        others = [vars(module) for module in model.modules()]
        mine, theirs = list[Tensor](), list[Tensor]()
        for index, kind, places in self._tensors:
            for name, tensor in places.items():
                if tensor is not None:
                    mine.append(tensor.detach())
                    theirs.append(others[index][kind][name].detach())
        torch._foreach_copy_(mine, theirs)
        for index, values, names in self._values:
            for name in names:
                values[name] = others[index][name]
        return self.copy


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
