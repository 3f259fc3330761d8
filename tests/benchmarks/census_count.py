"""A count of normalizations beside bnbench's own: by class, by name and by calls.

It shares no code with `find_norm_sites`, which decides by behaviour.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

_CLASSES = (
    *(nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
    *(nn.LocalResponseNorm, nn.CrossMapLRN2d),
)
_NAME = re.compile(r"norm|(?<![A-Za-z])bn(?![a-z])|BN|GRN|GlobalResponse", re.IGNORECASE)
#: Classes whose name has "norm" and that normalize nothing, or weights: looked at one by one.
NO_NORMS = {
    "NormFreeBlock": "a block without a normalization",
    "NormalizeLatent": "no layer",
    "Normalize": "preprocessing",
}
_FUNCTIONS = re.compile(r"(^|\.)(native_)?(batch|layer|group|instance|rms|local_response)_norm$")


@dataclass
class Count:
    """modules: qualified names of what is a normalization by class or name, once an object. functions: name of the
    module in which a functional normalization of activations was called, and how often a pass. weights: calls that
    normalize weights. error: why no pass could be made.
    """

    modules: dict[str, str] = field(default_factory=dict)
    functions: Counter[str] = field(default_factory=Counter)
    weights: int = 0
    error: str = ""


def candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules without layers of weights inside that are normalizations by class or by name; the outermost ones."""
    seen: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}." if outer else "") for outer in seen):
            continue
        holds_weights = any(
            isinstance(inner, nn.Linear | nn.modules.conv._ConvNd | nn.Embedding)
            for inner in module.modules()
        )
        if isinstance(module, _CLASSES) or (_NAME.search(type(module).__name__) and not holds_weights):
            if type(module).__name__ not in NO_NORMS and not isinstance(module, nn.Identity):
                seen.append(name)
                yield name, module


class _Calls(TorchFunctionMode):
    """Counts functional normalizations outside the modules that count as one themselves."""

    def __init__(self, count: Count, stack: list[str]) -> None:
        super().__init__()
        self.count, self.stack, self.inside, self.depth = count, stack, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = resolve_name(func) or ""
        is_norm = bool(self.stack and _FUNCTIONS.search(name)) and not self.inside and not self.depth
        if is_norm:
            first = args[0] if args else (kwargs or {}).get("input")
            if _is_weight(first):
                self.count.weights += 1
            else:
                self.count.functions[self.stack[-1]] += 1
        self.depth += is_norm
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.depth -= is_norm


def _is_weight(value: object) -> bool:
    """A parameter, or a view of one."""
    return isinstance(value, nn.Parameter) or isinstance(getattr(value, "_base", None), nn.Parameter)


def count_norms(model: nn.Module, run: Callable[[nn.Module], Any]) -> Count:
    """run: calls the network, once or more often. What runs outside of such a call is not counted."""
    count = Count({name: type(module).__name__ for name, module in candidates(model)})
    stack: list[str] = []
    mode = _Calls(count, stack)
    norms = {id(model.get_submodule(name)) for name in count.modules}

    def enter(name: str, is_norm: bool) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if not name:  # a pass that ended with an error leaves names behind
                stack.clear()
                mode.inside = 0
            stack.append(name)
            mode.inside += is_norm

        return hook

    def leave(is_norm: bool) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            stack.pop()
            mode.inside -= is_norm

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            is_norm = id(module) in norms
            hooks.callback(module.register_forward_pre_hook(enter(name, is_norm)).remove)
            hooks.callback(module.register_forward_hook(leave(is_norm)).remove)
        try:
            with mode:
                run(model)
        except Exception as error:  # a network that does not run here
            count.error = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"
    return count


def unexplained(count: Count, sites: list[tuple[tuple[str, ...], bool]]) -> list[str]:
    """What the count has and the record of sites has not. sites: names of each, and whether it is a function."""
    names = {name for site, _ in sites for name in site}
    places = Counter(
        name.partition(":")[0] for site, is_function in sites if is_function for name in site[:1]
    )
    missing = [
        f"{name} ({kind})"
        for name, kind in count.modules.items()
        if not any(name == site or _inside(name, site) or _inside(site, name) for site in names)
    ]
    for place, calls in count.functions.items():
        if place not in names and not places[place] and not any(_inside(place, site) for site in names):
            missing.append(f"{place}: {calls} functional calls")
    return missing


def _inside(name: str, outer: str) -> bool:
    return outer == "" or name.startswith(f"{outer}.")


def run_on(inputs: Any) -> Callable[[nn.Module], Any]:
    """A function that calls a network with a tensor, a tuple or a mapping."""

    def run(model: nn.Module) -> Any:
        if isinstance(inputs, dict):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)

    return run


def shapes(inputs: Any) -> list[tuple[int, ...]]:
    """Of the tensors in what a network is called with."""
    values = (
        inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,)
    )
    return [tuple(value.shape) for value in values if isinstance(value, Tensor)]
