"""A network computed in float64 throughout, also where its own code asks for a narrower type."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bnbench.network.flow.nodes import tensors_given

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_CASTS = {Tensor.float: Tensor.double, Tensor.half: Tensor.double, Tensor.bfloat16: Tensor.double}


class InFloat64(TorchFunctionMode):
    """Inside, every cast to a narrower real type goes to float64: an RMS norm that casts to float32 loses nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call the function with float64 wherever it is given a narrower type."""
        func = _CASTS.get(func, func)
        wide = {key: _wide(value) for key, value in (kwargs or {}).items()}
        return func(*(_wide(value) for value in args), **wide)


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def in_float64(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are float64."""
    return deepcopy(model).double()


def real_tensors(value: Any) -> list[Tensor]:
    """Every real tensor of an output, whatever holds it, in order."""
    return [tensor for tensor in tensors_given(value) if tensor.is_floating_point()]
