"""One forward pass of a network, and where in it an error began: which layer, and which shape it got."""

from __future__ import annotations

import os
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from bnbench.base.own_modules import is_own
from bnbench.base.process_state import seeded
from bnbench.base.user_code import first_line, guarded, raise_interrupt
from bnbench.network.flow.forward_pass import device_of, is_compiled, lazy_copy, on_device
from bnbench.network.sites.refusals import has_lazy
from bnbench.network.source.records import call
from bnbench.norms.behaviour import CPU, ModuleState


@dataclass(frozen=True)
class Trial:
    """outputs: of the pass, None where it failed. fault: where it failed and why, "" where it did not.

    layers: how many calls of layers came through. failed: the layer that raised; the network itself outside its layers.
    error: what it raised. got: the shape of the first tensor that this layer was called with. training: the mode.
    """

    outputs: Any = None
    fault: str = ""
    layers: int = 0
    failed: nn.Module | None = None
    error: BaseException | None = None
    got: tuple[int, ...] = ()
    training: bool = False


def tried(model: nn.Module, inputs: Any, *, training: bool = False) -> Trial:
    """The pass, without gradients. The network and the process stay as they were."""
    lazy = has_lazy(model)
    if lazy:  # its first call gives its layers a shape, which nothing takes back
        model = lazy_copy(model)
    entered: list[tuple[str, nn.Module, Any]] = []
    left: list[nn.Module] = []

    def enter(name: str, module: nn.Module) -> Any:
        return lambda _, arguments: entered.append((name, module, arguments))

    def leave(module: nn.Module, *_: Any) -> None:
        entered.pop()
        left.append(module)

    with ExitStack() as stack, warnings.catch_warnings(), guarded(), seeded(0, CPU), torch.no_grad():
        warnings.simplefilter("ignore")
        if not lazy:
            stack.callback(ModuleState(model).restore)
        modes = [(module, module.training) for module in model.modules()]
        stack.callback(_set_modes, modes)
        if any(is_compiled(module) for module in model.modules()):  # what is compiled can't be watched
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(enter(name, module)).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        model.train(training)
        try:
            return Trial(call(model, on_device(inputs, device_of(model))), layers=len(left))
        except BaseException as error:
            raise_interrupt(error)
            _, failed, arguments = entered[-1] if entered else ("", model, inputs)
            fault = _fault(model, entered, inputs, error)
            return Trial(None, fault, len(left), failed, error, _first_shape(arguments), training)


def _first_shape(arguments: Any) -> tuple[int, ...]:
    first = arguments[0] if isinstance(arguments, tuple | list) and arguments else arguments
    return tuple(first.shape) if isinstance(first, Tensor) else ()


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, mode in modes:
        module.training = mode


def _fault(
    model: nn.Module, entered: list[tuple[str, nn.Module, Any]], inputs: Any, error: BaseException
) -> str:
    name, module, arguments = entered[-1] if entered else ("", model, inputs)
    where = _line_of(error)
    kind = type(module).__name__
    place = f"layer {name} ({kind})" if name else f"the forward of {kind}"
    got = shapes_text(arguments) if name else shapes_text(inputs)
    wants = _wants(module)
    return f"{where}{place} got {got}{f', and takes {wants}' if wants else ''}: {first_line(error)}"


def _line_of(error: BaseException) -> str:
    """The last line of the user's own code that led there, for example "my_model.py:12: "; "" without one."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.isfile(frame.filename) and is_own(frame.filename)]
    return f"{os.path.relpath(own[-1].filename)}:{own[-1].lineno}: " if own else ""


def shapes_text(arguments: Any) -> str:
    """The shapes of what a layer was called with, for example "(2, 3, 8, 8)"."""
    if isinstance(arguments, Tensor):
        whole = not arguments.is_floating_point()
        return f"{tuple(arguments.shape)}{' whole numbers' if whole else ''}"
    if isinstance(arguments, dict):
        return ", ".join(f"{key} {shapes_text(value)}" for key, value in arguments.items())
    if isinstance(arguments, tuple | list):
        return " and ".join(map(shapes_text, arguments)) or "nothing"
    return type(arguments).__name__


def _wants(module: nn.Module) -> str:
    if isinstance(module, _ConvNd):
        axes = ", ".join(("D", "H", "W")[-len(module.kernel_size) :])
        return f"(N, {module.in_channels}, {axes})"
    if isinstance(module, nn.Linear):
        return f"(..., {module.in_features})"
    if isinstance(module, _BatchNorm):
        return f"{module.num_features} channels on axis 1"
    if isinstance(module, nn.GroupNorm):
        return f"{module.num_channels} channels on axis 1"
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return f"(..., {', '.join(map(str, module.normalized_shape))})"
    if isinstance(module, nn.Embedding):
        return f"whole numbers from 0 to {module.num_embeddings - 1}"
    return ""
