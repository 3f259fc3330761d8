"""The flow of data as a fold walks it: who reads what, how often each module runs, and what must not be changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from bnbench.network.fold.blocked import untouchable
from bnbench.network.fold.padding import ZeroPointPadding
from bnbench.network.fold.trial import takes_scale_and_shift
from bnbench.network.sites.norm_site import Node

#: Layers whose forward is known: a weight times the input, plus a bias.
_PLAIN = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.MultiheadAttention,
    nn.modules.linear.NonDynamicallyQuantizableLinear,
)
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class Flow:
    """The nodes of a pass by their index, and the modules of a network by their names."""

    def __init__(self, model: nn.Module, nodes: tuple[Node, ...]) -> None:
        self.nodes = {node.index: node for node in nodes}
        self.readers: dict[int, list[Node]] = {node.index: [] for node in nodes}
        for node in nodes:
            for index in dict.fromkeys(node.inputs):
                self.readers[index].append(node)
        self.names: dict[int, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self.names.setdefault(id(module), []).append(name)
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self._holders = dict(_holders(model))

    def calls(self, module: nn.Module) -> list[Node]:
        """The nodes in which a module runs."""
        return [node for node in self.nodes.values() if node.kind == "module" and node.module is module]

    def name(self, module: nn.Module) -> str:
        """Its first qualified name."""
        return next(iter(self.names.get(id(module), ["?"])))

    def check_weights(self, module: nn.Module, shape: tuple[int, ...] = ()) -> None:
        """Raises Blocked for a layer of weights that must not be changed, or whose forward is not known.

        shape: of its input, where a trial may judge a forward of its own: of a layer before the norm.
        """
        name = self.name(module)
        check_hooks(module, name)
        if parametrize.is_parametrized(module):
            raise untouchable("its weight is parametrized", name)
        weight = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
        if not isinstance(module._parameters.get(weight), nn.Parameter):
            raise untouchable("its weight is computed from other parameters", name)
        if "quant" in type(module).__module__:
            raise untouchable("it is quantized", name)
        if "forward" in vars(module):
            raise untouchable("its forward was replaced", name)
        known = type(module) in _PLAIN or isinstance(module, ZeroPointPadding)
        if not known and not takes_scale_and_shift(module, shape):
            raise untouchable(
                f"its class {type(module).__name__} may compute more than a layer of weights", name
            )
        for key, value in module.named_parameters(recurse=False):
            others = self._holders.get(_memory(value), set()) - {(id(module), key)}
            if others:
                raise untouchable(f"its {key} is tied to another layer's", name)

    def check_between(self, ends: tuple[str, str], between: Iterable[str] = ()) -> None:
        """Raises Blocked where a module that is not around both ends has hooks: they see the change.

        between: the names of modules on the way from one to the other.
        """
        first, second = (set(_ancestors(name)) for name in ends)
        on_the_way = {name for end in between for name in _ancestors(end)}
        for name in sorted((first | second | on_the_way) - (first & second)):
            if name not in ends and name in self.modules:
                check_hooks(self.modules[name], name)


def is_weights(module: nn.Module | None) -> bool:
    """Whether it is a layer of weights, whatever its class adds."""
    return isinstance(module, (nn.Linear, _ConvNd, nn.MultiheadAttention))


def check_hooks(module: nn.Module, name: str) -> None:
    """Raises Blocked for hooks: they read, or change, what a fold changes."""
    if any(getattr(module, kind, None) for kind in _HOOKS):
        raise untouchable("it has hooks", name)


def _ancestors(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _holders(model: nn.Module) -> Iterator[tuple[object, set[tuple[int, str]]]]:
    """For each parameter and buffer: the modules that hold it or another view of its memory."""
    found: dict[object, set[tuple[int, str]]] = {}
    for module in model.modules():
        for key, value in (*module._parameters.items(), *module._buffers.items()):
            if isinstance(value, Tensor):
                found.setdefault(_memory(value), set()).add((id(module), key))
    return iter(found.items())


def _memory(value: Tensor) -> object:
    if value.is_meta or torch.nn.parameter.is_lazy(value):
        return id(value)
    return value.untyped_storage().data_ptr() or id(value)
