"""`find_norm_sites`: every normalization in a network, with what it computes and what stands around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found, seed_streams
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.flow import Call, Recorder
from bnbench.network.neighbours import Flow
from bnbench.network.norm_behaviour import behaviour_of
from bnbench.network.norm_site import Neighbour, Node, NormBehaviour, NormSite, NormSites
from bnbench.norms.behaviour import ModuleState
from bnbench.norms.owner import _TORCH_NORMS, _WEIGHT_LAYERS, is_normalizer, made_as
from bnbench.norms.tokens import TokenNorm

#: Samples of the pass: a prime, so that flattened positions are a multiple of it, and more than one.
SAMPLES = 3
#: Functions that normalize.
FUNCTIONS = {
    "batch_norm": "batch",
    "layer_norm": "layer",
    "group_norm": "group",
    "instance_norm": "instance",
    "rms_norm": "rms",
    "local_response_norm": "other",
}


def find_norm_sites(
    model: nn.Module,
    inputs: Callable[[int], Any] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    samples: int = SAMPLES,
) -> NormSites:
    """Every normalization in a network. The network and the process are left as found.

    inputs: from a number of samples to what the network is called with: a tensor, a tuple of arguments, or a mapping of
    named ones; None: structure alone, without shapes, calls and neighbours. optimizer: whose groups are noted.
    The pass is made in the mode in which the network is; what it raises is in `NormSites.error`.
    """
    recorder, error = None, ""
    if inputs is not None:
        recorder, error = _traced(model, inputs, samples)
    shapes = _shapes(recorder.calls if recorder else [])
    behaviours = _behaviours(model, shapes, samples)
    leaves = set(behaviours)
    nodes = recorder.nodes(lambda module: is_leaf(module, leaves)) if recorder and not error else ()
    flow = Flow(nodes)
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    modules = {id(module): module for module in model.modules()}
    sites = [
        _site(modules[key], names[key], behaviour, flow, optimizer) for key, behaviour in behaviours.items()
    ]
    sites += list(_called(flow))
    return NormSites(tuple(sites), nodes, "execution" if nodes else "none", error)


def is_leaf(module: nn.Module, norms: set[int]) -> bool:
    """Whether its call is one node: a normalization, a layer of weights, or another layer of torch's."""
    if id(module) in norms or isinstance(module, (*_WEIGHT_LAYERS, nn.MultiheadAttention)):
        return True
    is_torch = type(module).__module__.startswith("torch.nn.")
    return is_torch and not any(True for _ in module.children())


def _traced(model: nn.Module, inputs: Callable[[int], Any], samples: int) -> tuple[Recorder, str]:
    parameter = next(iter(model.parameters()), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    recorder = Recorder(model)
    modes = [(module, module.training) for module in model.modules()]
    with left_as_found(device), ExitStack() as stack, torch.no_grad():
        stack.callback(_put_back, modes)
        stack.callback(ModuleState(model).restore)
        seed_streams(0, device)
        try:
            recorder.run(_moved(inputs(samples), device))
        except BaseException as error:  # whatever a user's layer raises: the record says so
            raise_interrupt(error)
            return recorder, first_line(error)
    return recorder, ""


def _put_back(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_moved(item, device) for item in value)
    return value


def _shapes(calls: list[Call]) -> dict[int, list[Call]]:
    found: dict[int, list[Call]] = {}
    for call in calls:
        found.setdefault(id(call.module), []).append(call)
    return found


def _candidates(model: nn.Module) -> Iterator[nn.Module]:
    """Modules that may normalize: they hold no layer of weights; the innermost first."""
    for name, module in reversed(list(model.named_modules())):
        if "parametrizations" in name.split("."):
            continue
        kind = type(module)
        if made_as(module) is not None:
            if not isinstance(module, TokenNorm) and kind is not nn.Identity:
                yield module
            continue
        if kind.__module__.startswith("torch.nn.modules.") and not isinstance(module, _TORCH_NORMS):
            continue
        if not any(isinstance(inner, _WEIGHT_LAYERS) for inner in module.modules()):
            yield module


def _behaviours(model: nn.Module, calls: dict[int, list[Call]], samples: int) -> dict[int, NormBehaviour]:
    """By the identity of the module, in the order of the network's modules."""
    found: dict[int, NormBehaviour] = {}
    tried: dict[object, NormBehaviour | None] = {}
    for module in _candidates(model):
        inside = {id(inner) for inner in module.modules()} & set(found)
        if inside and made_as(module) is None:
            continue
        called = calls.get(id(module), [])
        shape = called[0].shape if called else _guess(module)
        if called and called[0].output != called[0].shape and called[0].output is not None:
            continue
        if not shape:
            continue
        key = (type(module), _configuration(module), shape)
        if key not in tried:
            tried[key] = _tried(module, shape, samples if called else 0)
        behaviour = tried[key]
        if behaviour is None:
            continue
        for inner in inside:
            found.pop(inner)
        found[id(module)] = behaviour
    order = {id(module): number for number, module in enumerate(model.modules())}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def _tried(module: nn.Module, shape: tuple[int, ...], samples: int) -> NormBehaviour | None:
    try:
        found = behaviour_of(module, shape, samples)
    except ValueError:
        found = None
    if found is None and (made_as(module) is not None or is_normalizer(module)):
        sizes = [value.numel() for value in module.parameters()]
        return NormBehaviour("other", (), 1 if len(shape) > 1 else 0, max(sizes, default=0))
    return replace(found, values=found.values if samples else 0) if found else None


def _configuration(module: nn.Module) -> tuple[object, ...]:
    """What makes two modules of one class the same: their numbers and the shapes of their tensors."""
    parts: list[object] = []
    for name, inner in module.named_modules():
        numbers = tuple(
            (key, value if isinstance(value, bool | int | float | str) else id(value))
            for key, value in vars(inner).items()
            if key != "training" and (isinstance(value, bool | int | float | str | None) or key == "forward")
        )
        tensors = tuple(
            (key, None if value is None else tuple(value.shape))
            for key, value in (*inner._parameters.items(), *inner._buffers.items())
        )
        parts.append((name, type(inner), numbers, tensors))
    return tuple(parts)


def _guess(module: nn.Module) -> tuple[int, ...]:
    """An input for a module that no pass reached."""
    size = max((value.numel() for value in module.parameters()), default=8)
    size = int(getattr(module, "num_features", 0) or getattr(module, "num_channels", 0) or size)
    shape = getattr(module, "normalized_shape", None)
    if shape:
        return (4, 3, *shape)
    dims = next((int(d) for d in "123" if f"{d}d" in type(module).__name__), 2)
    return (4, size, *[3] * dims)


def _site(
    module: nn.Module,
    names: list[str],
    behaviour: NormBehaviour,
    flow: Flow,
    optimizer: torch.optim.Optimizer | None,
) -> NormSite:
    nodes = flow.calls_of(module)
    shapes = tuple(flow.nodes[node.inputs[0]].shape if node.inputs else node.shape for node in nodes)
    return NormSite(
        names[0],
        tuple(names),
        tuple(name.rpartition(".")[0] for name in names),
        module,
        behaviour,
        shapes,
        _one_producer(flow, nodes),
        _consumers(flow, nodes),
        module.training,
        {name: value.requires_grad for name, value in module.named_parameters()},
        _group(module, optimizer),
        dict((*module.named_parameters(), *module.named_buffers())),
    )


def _one_producer(flow: Flow, nodes: list[Node]) -> Neighbour | None:
    found = [flow.producer(node) for node in nodes]
    return found[0] if found and all(other == found[0] for other in found) else None


def _consumers(flow: Flow, nodes: list[Node]) -> tuple[Neighbour, ...]:
    found: list[Neighbour] = []
    for node in nodes:
        found += [neighbour for neighbour in flow.consumers(node) if neighbour not in found]
    return tuple(found)


def _group(module: nn.Module, optimizer: torch.optim.Optimizer | None) -> int | None:
    own = {id(parameter) for parameter in module.parameters()}
    for number, group in enumerate(optimizer.param_groups if optimizer else ()):
        if any(id(parameter) in own for parameter in group["params"]):
            return number
    return None


def _called(flow: Flow) -> Iterator[NormSite]:
    """Normalizations that are called as functions."""
    for node in flow.nodes:
        if node.kind != "function" or node.name not in FUNCTIONS:
            continue
        kind = FUNCTIONS[node.name]
        name = f"{node.scope}: {node.name}" if node.scope else node.name
        axis = len(node.shape) - 1 if kind in ("layer", "rms") else 1
        behaviour = NormBehaviour(kind, (), axis, node.shape[axis])  # type: ignore[arg-type]
        reason = f"torch.nn.functional.{node.name} is called as a function: there is no module to replace"
        yield NormSite(
            name,
            (name,),
            (node.scope,),
            None,
            behaviour,
            (node.shape,),
            flow.producer(node),
            tuple(flow.consumers(node)),
            refused=reason,
        )
