"""A model that comes out as it went in: parameters, buffers, gradients, flags, and the process's random streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import guarded, raise_interrupt, text_of
from bnbench.norms.behaviour import ModuleState


@contextmanager
def untouched(model: nn.Module) -> Iterator[torch.device]:
    """Inside, a model may be run and changed; whatever happens, it is as it was afterwards. Gives its device.

    Parameters, buffers and other tensors keep their objects, too; gradients and `requires_grad` are put back.
    """
    device = device_of(model)
    state = ModuleState(model)
    flags = [(inner, inner.training) for inner in model.modules()]
    kept = [
        (parameter, parameter.grad, None if parameter.grad is None else parameter.grad.detach().clone())
        for parameter in model.parameters()
    ]
    needed = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with left_as_found(device):
        try:
            yield device
        finally:
            with torch.no_grad():
                state.restore()
                for parameter, gradient, content in kept:
                    parameter.grad = gradient
                    if gradient is not None and content is not None:
                        gradient.copy_(content)
            for parameter, need in needed:
                parameter.requires_grad_(need)
            for inner, training in flags:
                inner.training = training


def device_of(model: nn.Module) -> torch.device:
    """Of its first parameter; the CPU without one."""
    parameter = next(iter(model.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device


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
