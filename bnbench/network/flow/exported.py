"""The flow of data by torch.export, as the same nodes: for what the recording of torch functions can't follow."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from bnbench.base.user_code import raise_interrupt
from bnbench.network.flow.forward_pass import device_of, left_as_it_was, on_device
from bnbench.network.sites.norm_site import Node


def exported_nodes(
    model: nn.Module, arguments: Any, is_leaf: Callable[[nn.Module], bool]
) -> tuple[Node, ...]:
    """The nodes of the exported program; none where torch.export can't trace the network.

    arguments: what the network is called with. Inside leaves and between them stand the operators of ATen.
    """
    given = on_device(arguments, device_of(model))
    positional = () if isinstance(given, Mapping) else given if isinstance(given, tuple) else (given,)
    named = dict(given) if isinstance(given, Mapping) else {}
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what torch says of a network that it can't export
    try:
        with left_as_it_was(model):
            program = torch.export.export(model, positional, named, strict=False)
    except BaseException as error:
        raise_interrupt(error)
        return ()
    finally:
        logging.disable(level)
    return _Program(program, model, is_leaf).nodes()


class _Program:
    """An exported program, whose operators become the leaf modules that call them."""

    def __init__(
        self, program: torch.export.ExportedProgram, model: nn.Module, is_leaf: Callable[[nn.Module], bool]
    ) -> None:
        self.graph, self.signature = program.graph, program.graph_signature
        self.modules, self.is_leaf = dict(model.named_modules(remove_duplicate=False)), is_leaf
        self.made: list[Node] = []
        self.numbers: dict[Any, int] = {}
        self.of_call: dict[str, int] = {}

    def nodes(self) -> tuple[Node, ...]:
        inputs, outputs = set(self.signature.user_inputs), set(self.signature.user_outputs)
        for node in self.graph.nodes:
            if node.op == "placeholder" and node.name in inputs:
                self._add(node, "input", node.name, None, "")
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                given = [value for value in node.all_input_nodes if value.name in outputs]
                self._add(node, "output", "output", None, "", given)
        return tuple(self.made)

    def _call(self, node: torch.fx.Node) -> None:
        """An operator: a part of the outermost leaf that calls it, or a function; an item is what gave it."""
        if node.target is operator.getitem and node.args[0] in self.numbers:
            self.numbers[node] = self.numbers[node.args[0]]
            return
        scope = ""
        for call, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            name = str(path).partition("@")[0]
            module = self.modules.get(name)
            if module is not None and self.is_leaf(module):
                self._part_of(node, call, name, module, scope)
                return
            scope = name
        target: Any = node.target
        self._add(
            node,
            "function",
            str(getattr(target, "__name__", target)).partition(".")[0].strip("_"),
            None,
            scope,
        )

    def _part_of(self, node: torch.fx.Node, call: str, name: str, module: nn.Module, scope: str) -> None:
        if call not in self.of_call:
            self._add(node, "module", name, module, scope)
            self.of_call[call] = self.numbers[node]
            return
        index = self.numbers[node] = self.of_call[call]
        old = self.made[index]
        given = (self.numbers[value] for value in node.all_input_nodes if value in self.numbers)
        more = tuple(dict.fromkeys((*old.inputs, *(i for i in given if i != index))))
        self.made[index] = Node(**{**vars(old), "inputs": more, "shape": _shape(node) or old.shape})

    def _add(
        self,
        node: torch.fx.Node,
        kind: Any,
        name: str,
        module: nn.Module | None,
        scope: str,
        given: Any = None,
    ) -> None:
        sources = node.all_input_nodes if given is None else given
        inputs = dict.fromkeys(self.numbers[value] for value in sources if value in self.numbers)
        arguments = tuple(value for value in node.args if not isinstance(value, torch.fx.Node | list | tuple))
        self.numbers[node] = len(self.made)
        arguments = arguments if kind == "function" else ()
        self.made.append(
            Node(len(self.made), kind, name, module, tuple(inputs), scope, _shape(node), arguments)
        )


def _shape(node: torch.fx.Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(int(size) for size in value.shape) if isinstance(value, torch.Tensor) else ()
