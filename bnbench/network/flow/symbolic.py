"""The flow of data without an input: torch.fx's symbolic trace of a network, as the same nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.fx
from torch import nn

from bnbench.base.user_code import raise_interrupt
from bnbench.network.flow.recording import function_name
from bnbench.network.sites.norm_site import Node


class _Tracer(torch.fx.Tracer):
    def __init__(self, is_leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self._is_leaf = is_leaf
        self.scopes: dict[str, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self._is_leaf(m)

    def create_node(self, *arguments: Any, **named: Any) -> torch.fx.Node:
        node = super().create_node(*arguments, **named)
        self.scopes[node.name] = self.scope.module_path
        return node


def symbolic_nodes(model: nn.Module, is_leaf: Callable[[nn.Module], bool]) -> tuple[Node, ...]:
    """The nodes of the symbolic trace; none where torch.fx can't trace the network, as with control flow on data.

    A parameter that a function reads is no node, but one of its arguments. There are no shapes.
    """
    tracer = _Tracer(is_leaf)
    try:
        graph = tracer.trace(model)
    except BaseException as error:
        raise_interrupt(error)
        return ()
    modules = dict(model.named_modules())
    numbers: dict[torch.fx.Node, int] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "get_attr":
            continue
        module = modules[node.target] if node.op == "call_module" else None
        inputs = dict.fromkeys(numbers[i] for i in node.all_input_nodes if i in numbers)
        numbers[node] = len(nodes)
        nodes.append(
            Node(
                len(nodes),
                _KINDS.get(node.op, "function"),  # type: ignore[arg-type]
                _name(node),
                module,
                tuple(inputs),
                tracer.scopes.get(node.name, ""),
                (),
                tuple(value for value in node.args if not _has_node(value)),
                {key: value for key, value in node.kwargs.items() if not _has_node(value)},
            )
        )
    return tuple(nodes)


_KINDS = {"placeholder": "input", "call_module": "module", "output": "output"}


def _name(node: torch.fx.Node) -> str:
    if node.op == "call_function":
        return function_name(node.target)  # type: ignore[arg-type]
    if node.op == "call_method":
        return str(node.target).strip("_")
    return "output" if node.op == "output" else str(node.target)


def _has_node(value: Any) -> bool:
    found: list[torch.fx.Node] = []
    torch.fx.map_arg(value, found.append)
    return bool(found)
