"""One recorded forward pass of a network with random samples. The network and the process are left as found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from bnbench.base.process_state import ProcessState, left_as_found, seed_streams
from bnbench.base.user_code import raise_interrupt
from bnbench.network.flow.recording import Call, Recorder, call
from bnbench.network.sites.refusals import has_lazy
from bnbench.norms.behaviour import ModuleState
from bnbench.norms.owner import _WEIGHT_LAYERS

#: From a number of samples to what a network is called with: a tensor, a tuple, or a mapping of named ones.
Inputs = Callable[[int], Any]
CPU = torch.device("cpu")


@dataclass
class ForwardPass:
    """What a pass showed. training: its mode. error: what the network raised.

    draws: it drew random numbers. moved: the float buffers that it changed, by their qualified names.
    """

    recorder: Recorder | None = None
    training: bool | None = None
    error: BaseException | None = None
    draws: bool = False
    moved: tuple[str, ...] = ()

    @property
    def calls(self) -> dict[int, list[Call]]:
        """The calls of every module, by its identity."""
        found: dict[int, list[Call]] = {}
        for made in self.recorder.calls if self.recorder else ():
            found.setdefault(id(made.module), []).append(made)
        return found


def forward_pass(model: nn.Module, inputs: Inputs, samples: int, training: bool | None = None) -> ForwardPass:
    """One pass in this mode; None: in the mode that each module has."""
    device = device_of(model)
    seen = ForwardPass(Recorder(model))
    with left_as_it_was(model):
        before = _float_buffers(model)
        streams = ProcessState.now(device)
        try:
            if training is not None:
                model.train(training)
            seen.training = model.training
            assert seen.recorder is not None
            seen.recorder.run(on_device(inputs(samples), device))
        except BaseException as error:  # whatever a user's layer raises: the record says so
            raise_interrupt(error)
            seen.error = error
        seen.draws = ProcessState.now(device).has_drawn_since(streams)
        after = dict(model.named_buffers())
        seen.moved = tuple(name for name, value in before.items() if not torch.equal(value, after[name]))
    return seen


def in_either_mode(model: nn.Module, inputs: Inputs, samples: int) -> ForwardPass:
    """One pass in the network's own mode, or in inference where that raises."""
    first = forward_pass(model, inputs, samples)
    if first.error and any(module.training for module in model.modules()):
        second = forward_pass(model, inputs, samples, training=False)
        return first if second.error else second
    return first


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Inside, passes without gradients leave no trace on the network and the process; random streams start anew.

    Meanwhile it runs in Python, uncompiled, and without torch's fused transformer layers.
    """
    device = device_of(model)
    with left_as_found(device), ExitStack() as stack, torch.no_grad():
        if not has_lazy(model):
            stack.callback(ModuleState(model).restore)
        for module in model.modules():
            for value in list(vars(module).values()):
                if isinstance(value, torch.Generator):  # of the network's own
                    stack.callback(value.set_state, value.get_state())
        stack.callback(_put_back, [(module, module.training) for module in model.modules()])
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if any(is_compiled(module) for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        seed_streams(0, device if device.type != "meta" else CPU)
        yield


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile made its forward."""
    return (
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
    )


def _float_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies of them, by their qualified names."""
    buffers = [(n, value) for n, value in model.named_buffers() if not is_lazy(value) and not value.is_meta]
    return {name: value.clone() for name, value in buffers if value.is_floating_point()}


def _put_back(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        if module.training != training:
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """Where its first parameter or buffer is; the CPU without one."""
    first = next((value for value in (*model.parameters(), *model.buffers())), None)
    return CPU if first is None else first.device


def on_device(value: Any, device: torch.device) -> Any:
    """What a network is called with, on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: on_device(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(on_device(item, device) for item in value)
    return value


def initialized(model: nn.Module, inputs: Inputs, samples: int) -> nn.Module:
    """A copy of a network with lazy layers after one call, in which they have shapes; itself where that fails."""
    device = device_of(model)
    try:
        twin = lazy_copy(model)
        with left_as_found(device), torch.no_grad():
            call(twin, on_device(inputs(samples), device))
    except BaseException as error:
        raise_interrupt(error)
        return model
    return twin


def lazy_copy(model: nn.Module) -> nn.Module:
    """A deep copy of a network with lazy layers: torch copies lazy parameters, and no lazy buffers."""
    empty: Any = UninitializedBuffer
    fresh = {id(b): empty(device=b.device, dtype=b.dtype) for b in model.buffers() if is_lazy(b)}
    return copy.deepcopy(model, fresh)


def is_leaf(module: nn.Module) -> bool:
    """Whether its call is one node: a layer of weights, or another layer of torch's without layers inside."""
    if isinstance(module, (*_WEIGHT_LAYERS, nn.MultiheadAttention)):
        return True
    return type(module).__module__.startswith("torch.nn.") and not any(True for _ in module.children())
