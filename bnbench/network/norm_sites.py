"""`find_norm_sites`: every normalization in a network, with what it computes and what stands around it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from bnbench.base.process_state import left_as_found, seed_streams
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.candidates import behaviours_of
from bnbench.network.flow import Call, Recorder, call
from bnbench.network.function_norms import function_sites
from bnbench.network.neighbours import Flow
from bnbench.network.norm_site import NormBehaviour, NormSite, NormSites
from bnbench.network.refusals import has_lazy, refusal_of, refusal_within, wrappers
from bnbench.network.symbolic import symbolic_nodes
from bnbench.norms.behaviour import ModuleState
from bnbench.norms.owner import _WEIGHT_LAYERS

#: Samples of the pass: a prime, so that flattened positions are a multiple of it, and more than one.
SAMPLES = 3
Inputs = Callable[[int], Any]


def find_norm_sites(
    model: nn.Module,
    inputs: Inputs | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    samples: int = SAMPLES,
) -> NormSites:
    """Every normalization in a network. The network and the process are left as found.

    inputs: from a number of samples to what the network is called with: a tensor, a tuple of arguments, or a mapping of
    named ones; None: structure alone, traced by torch.fx. optimizer: whose groups are noted.

    One pass is made in the mode in which the network is, or in inference where that raises; what both raise is in
    `NormSites.error`. A network on the meta device is followed there.
    """
    subject = _initialized(model, inputs, samples) if inputs is not None and has_lazy(model) else model
    traced = _traced(subject, inputs, samples) if inputs is not None else _Trace()
    calls: dict[int, list[Call]] = {}
    for made in traced.recorder.calls if traced.recorder else ():
        calls.setdefault(id(made.module), []).append(made)
    behaviours = behaviours_of(subject, calls, samples)
    leaves = behaviours.keys()

    def is_node(module: nn.Module) -> bool:
        return is_leaf(module) or id(module) in leaves

    tracer: Any = "execution"
    nodes = traced.recorder.nodes(is_node) if traced.recorder and not traced.error else ()
    if not nodes:
        nodes, tracer = symbolic_nodes(subject, is_node), "fx"
    record = _Record(model, subject, Flow(nodes), {} if traced.error else calls, wrappers(model), optimizer)
    sites = function_sites([*record.sites(behaviours)], record.flow)
    return NormSites(tuple(sites), nodes, tracer if nodes else "none", traced.error, traced.training)


def is_leaf(module: nn.Module) -> bool:
    """Whether its call is one node: a layer of weights, or another layer of torch's without layers inside."""
    if isinstance(module, (*_WEIGHT_LAYERS, nn.MultiheadAttention)):
        return True
    return type(module).__module__.startswith("torch.nn.") and not any(True for _ in module.children())


@dataclass
class _Trace:
    recorder: Recorder | None = None
    error: str = ""
    training: bool | None = None


def _traced(model: nn.Module, inputs: Inputs, samples: int) -> _Trace:
    """One recorded pass in the network's own mode, or in inference where that raises."""
    first = _pass(model, inputs, samples)
    if first.error and any(module.training for module in model.modules()):
        second = _pass(model, inputs, samples, inference=True)
        return first if second.error else second
    return first


def _pass(model: nn.Module, inputs: Inputs, samples: int, inference: bool = False) -> _Trace:
    device = _device(model)
    trace = _Trace(Recorder(model))
    with left_as_found(device), ExitStack() as stack, torch.no_grad():
        _keep(model, stack)
        seed_streams(0, torch.device("cpu") if device.type == "meta" else device)
        try:
            if inference:
                model.eval()
            trace.training = model.training
            assert trace.recorder is not None
            trace.recorder.run(moved(inputs(samples), device))
        except BaseException as error:  # whatever a user's layer raises: the record says so
            raise_interrupt(error)
            trace.error = first_line(error)
    return trace


def _keep(model: nn.Module, stack: ExitStack) -> None:
    """Put the network's state and modes back at the end; meanwhile it runs in Python, uncompiled and unfused."""
    if not has_lazy(model):
        stack.callback(ModuleState(model).restore)
    modes = [(module, module.training) for module in model.modules()]

    def restore() -> None:
        for module, training in modes:
            module.training = training

    if not has_scripts(model):
        stack.callback(restore)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
    compiled = any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    stack.enter_context(torch.compiler.set_stance("force_eager") if compiled else nullcontext())


def has_scripts(model: nn.Module) -> bool:
    """Whether a part of it is a ScriptModule."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def _device(model: nn.Module) -> torch.device:
    first = next((value for value in (*model.parameters(), *model.buffers())), None)
    return torch.device("cpu") if first is None else first.device


def moved(value: Any, device: torch.device) -> Any:
    """What a network is called with, on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(moved(item, device) for item in value)
    return value


def _initialized(model: nn.Module, inputs: Inputs, samples: int) -> nn.Module:
    """A copy of a network with lazy layers after one call, in which they have shapes; itself where that fails."""
    device = _device(model)
    try:
        # torch copies lazy parameters, and no lazy buffers
        empty: Any = UninitializedBuffer
        fresh = {id(b): empty(device=b.device, dtype=b.dtype) for b in model.buffers() if is_lazy(b)}
        twin = copy.deepcopy(model, fresh)
        with left_as_found(device), torch.no_grad():
            call(twin, moved(inputs(samples), device))
    except BaseException as error:
        raise_interrupt(error)
        return model
    return twin


@dataclass
class _Record:
    """A network and one pass through it. subject: the network that was followed, a copy where it has lazy layers."""

    model: nn.Module
    subject: nn.Module
    flow: Flow
    calls: dict[int, list[Call]]
    wrapped: dict[str, str]
    optimizer: torch.optim.Optimizer | None
    names: dict[int, list[str]] = field(default_factory=dict)

    def sites(self, behaviours: Mapping[int, NormBehaviour]) -> Iterator[NormSite]:
        """One site for each module that normalizes."""
        for name, module in self.subject.named_modules(remove_duplicate=False):
            self.names.setdefault(id(module), []).append(name)
        holders: dict[int, list[str]] = {}
        for name, value in self.model.named_parameters(remove_duplicate=False):
            holders.setdefault(id(value), []).append(name)
        own = dict(self.model.named_modules(remove_duplicate=False))
        for key, behaviour in behaviours.items():
            names = tuple(self.names[key])
            yield self._site(key, names, own[names[0]], behaviour, holders)

    def _site(
        self,
        key: int,
        names: tuple[str, ...],
        module: nn.Module,
        behaviour: NormBehaviour,
        holders: Mapping[int, list[str]],
    ) -> NormSite:
        nodes = self.flow.calls_of_id(key)
        producers = tuple(self.flow.producer(node) for node in nodes)
        consumers = (neighbour for node in nodes for neighbour in self.flow.consumers(node))
        inside = [f"{name}." if name else "" for name in names]
        tied = (
            other
            for value in module.parameters()
            for other in holders.get(id(value), ())
            if not any(other.startswith(prefix) for prefix in inside)
        )
        return NormSite(
            names[0],
            names,
            tuple(name.rpartition(".")[0] for name in names),
            module,
            behaviour,
            tuple(made.shape for made in self.calls.get(key, ())),
            producers[0] if producers and all(other == producers[0] for other in producers) else None,
            tuple(dict.fromkeys(consumers)),
            module.training,
            {name: value.requires_grad for name, value in module.named_parameters()},
            self._group(module),
            dict((*module.named_parameters(), *module.named_buffers())),
            refusal_within(names, self.wrapped) or refusal_of(module),
            producers,
            tuple(dict.fromkeys(tied)),
        )

    def _group(self, module: nn.Module) -> int | None:
        own = {id(parameter) for parameter in module.parameters()}
        for number, group in enumerate(self.optimizer.param_groups if self.optimizer else ()):
            if any(id(parameter) in own for parameter in group["params"]):
                return number
        return None
