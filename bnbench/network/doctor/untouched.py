"""Calling a network that comes out as it went in, on whatever inputs it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnbench.base.errors import BnbenchError
from bnbench.base.user_code import guarded, raise_interrupt, text_of
from bnbench.network.snapshot import device_of, untouched

__all__ = ["called", "device_of", "main_output", "on", "shape_text", "untouched"]


def called(model: nn.Module, inputs: Any, device: torch.device) -> Any:
    """What a network gives for a batch: a tensor, the arguments of a tuple, or a dict's keyword arguments.

    Raises BnbenchError with what the network raised.
    """
    given = on(inputs, device)
    try:
        with guarded():
            if isinstance(given, Mapping):
                return model(**given)
            return model(*given) if isinstance(given, tuple) else model(given)
    except BaseException as error:
        raise_interrupt(error)
        raise BnbenchError(
            f"the network fails on a batch of the data, {shape_text(inputs)}: {text_of(error)}",
            "Its forward raised this.",
            "data of the shape that the network takes, or --input for a network of another shape.",
        ) from error


def materialise(model: nn.Module, inputs: Callable[[int], Any] | None) -> None:
    """Lazy layers make their parameters in a first pass, in eval mode. To be called where the model is put back."""
    tensors = (*model.parameters(), *model.buffers())
    if inputs is None or not any(is_lazy(tensor) for tensor in tensors):
        return
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        called(model, inputs(2), device_of(model))
    for module, training in flags:
        module.training = training


def on(inputs: Any, device: torch.device) -> Any:
    """The same inputs on a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {name: on(value, device) for name, value in inputs.items()}
    return tuple(on(value, device) for value in inputs) if isinstance(inputs, tuple | list) else inputs


def shape_text(inputs: Any) -> str:
    """For example "of shape (8, 3, 32, 32)"."""
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name} {shape_text(value)}" for name, value in inputs.items())
    if isinstance(inputs, tuple | list):
        return ", ".join(shape_text(value) for value in inputs)
    return f"of shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"


def main_output(outputs: Any) -> Tensor | None:
    """The tensor that is judged: the output itself, its logits, or the first of several; None without one."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        named = outputs.get("logits", outputs.get("out"))
        return named if isinstance(named, Tensor) else _first(outputs.values())
    if isinstance(logits := getattr(outputs, "logits", None), Tensor):
        return logits
    return _first(outputs) if isinstance(outputs, tuple | list) else None


def _first(values: Any) -> Tensor | None:
    return next((value for value in values if isinstance(value, Tensor) and value.is_floating_point()), None)
