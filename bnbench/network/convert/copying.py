"""Copies of a network, also where Python makes none by itself; and layers without a shape before their first call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from bnbench.base.errors import BnbenchError
from bnbench.base.process_state import seeded
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.flow.forward_pass import in_either_mode
from bnbench.network.source.records import call
from bnbench.norms.behaviour import CPU

_SAMPLES = 2


def copied(model: nn.Module) -> nn.Module:
    """A deep copy. Raises BnbenchError where there is none.

    Python copies no parameter without a shape, no generator, no scripted function, and no tensor that was computed from
    parameters, as the old `torch.nn.utils.weight_norm` leaves one: the next pass computes it again.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for place in (module._parameters, module._buffers, vars(module)):
            for value in place.values():
                if isinstance(value, torch.Generator):
                    memo[id(value)] = value.clone_state()
                elif isinstance(value, torch.jit.ScriptFunction):
                    memo[id(value)] = value
                if not isinstance(value, Tensor):
                    continue
                if is_lazy(value):
                    kind: Any = type(value)
                    memo[id(value)] = kind(value.requires_grad, value.device, value.dtype)
                elif not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except BaseException as error:  # whatever a user's module raises
        raise_interrupt(error)
        raise BnbenchError(
            f"{type(model).__name__} can't be copied: {first_line(error)}",
            "The network that is given stays as it is, so a copy is converted.",
            "convert it before it is compiled, wrapped, or run.",
        ) from error


def check_copy(model: nn.Module, twin: nn.Module, inputs: Callable[[int], Any] | None) -> None:
    """Raises BnbenchError where the copy calls a layer of the network itself: Python copies no lambda."""
    if inputs is None:
        return
    names = {id(module): name for name, module in model.named_modules()}
    called: list[str] = []

    def note(module: nn.Module, _: Any) -> None:
        if (name := names.get(id(module))) is not None:
            called.append(name or "the root")

    handle = register_module_forward_pre_hook(note)
    try:
        in_either_mode(twin, inputs, _SAMPLES)
    finally:
        handle.remove()
    if called:
        raise BnbenchError(
            f"{type(model).__name__} can't be copied: the copy calls {called[0]} of the network itself.",
            "A function keeps that layer, as a lambda or a hook does, and Python copies no function.",
            "make the function a method of the module.",
        )


def with_shapes(model: nn.Module, inputs: Callable[[int], Any] | None) -> nn.Module:
    """The network; a copy that has run once, where layers of it have no shape yet. Raises BnbenchError."""
    lazy = [
        name
        for name, module in model.named_modules()
        if any(
            value is not None and is_lazy(value)
            for value in (*module._parameters.values(), *module._buffers.values())
        )
    ]
    if not lazy:
        return model
    why = f"{lazy[0]} has no shape before the network's first call."
    if inputs is None:
        raise BnbenchError(
            f"{type(model).__name__}: {why}", fix="run it once: model(inputs); or give the inputs."
        )
    twin = copied(model)
    modes = {name: module.training for name, module in twin.named_modules()}
    try:
        with torch.no_grad(), seeded(0, CPU):
            call(twin.eval(), inputs(2))
    except BaseException as error:  # whatever a user's network raises
        raise_interrupt(error)
        raise BnbenchError(
            f"{type(model).__name__}: {why}",
            f"It does not run on its input: {first_line(error)}",
            "run it once.",
        ) from error
    for name, module in twin.named_modules():
        module.training = modes.get(name, True)
    return twin
