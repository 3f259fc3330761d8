"""The two walks: from a norm back to the layers of weights before it, and on to all those after it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from bnbench.network.fold.affine import Affine
from bnbench.network.fold.blocked import Blocked, untouchable
from bnbench.network.fold.fields import Field, backwards, forwards, operation
from bnbench.network.fold.flow import Flow, is_weights
from bnbench.network.sites.norm_site import Node

#: Functions in words; the others keep their names.
_WORDS = {
    "add": "an addition",
    "sub": "a subtraction",
    "mul": "a multiplication",
    "truediv": "a division",
    "div": "a division",
    "cat": "a concatenation",
    "getitem": "a slice",
    "chunk": "a split",
    "split": "a split",
    "matmul": "a matrix product",
    "pad": "padding",
}
_CATS = {"cat", "concat", "concatenate"}
#: Functions that take the shape alone of what they are given last.
_LIKE = {"view_as", "reshape_as", "expand_as", "type_as"}
#: Functions that look at a shape and not at values.
_SHAPE_ONLY = {
    "size",
    "dim",
    "ndimension",
    "numel",
    "shape",
    "getattr",
    "sym_size",
    "ndim",
    "dtype",
    "device",
    "is_floating_point",
}


class Walk:
    """What one norm asks of layers of weights. idle: the norms that were folded, with what stays in their place."""

    def __init__(self, flow: Flow, norm: nn.Module, idle: Mapping[int, tuple[str, ...]]) -> None:
        self.flow, self.norm, self.idle = flow, norm, idle
        #: For each layer, what each of its calls is asked for.
        self.asked: dict[int, tuple[nn.Module, dict[int, Affine]]] = {}
        #: The names of the modules that it went through.
        self.between: set[str] = set()

    def layers(self) -> list[tuple[str, nn.Module, Affine]]:
        """The layers to change, by name. Raises Blocked where one must not be, or works for something else too."""
        found = []
        norm_name = self.flow.name(self.norm)
        for module, calls in self.asked.values():
            name = self.flow.name(module)
            every = self.flow.calls(module)
            if {node.index for node in every} != set(calls):
                raise untouchable(f"that layer runs {len(every)} times, and not always for this norm", name)
            first, *others = calls.values()
            if not all(_equal(first, other) for other in others):
                raise untouchable("that layer runs more than once, with another scale each time", name)
            shape = self.shape(every[0]) if isinstance(self, Before) else ()
            self.flow.check_weights(module, shape)
            self.flow.check_between((name, norm_name), self.between)
            found.append((name, module, first))
        return found

    def ask(self, node: Node, affine: Affine) -> None:
        """One call of a layer. Raises Blocked where it is asked twice."""
        assert node.module is not None
        _, calls = self.asked.setdefault(id(node.module), (node.module, {}))
        if node.index in calls:
            raise untouchable("that layer's output is used twice", node.name)
        calls[node.index] = affine

    def passes(self, node: Node) -> None:
        """Note whose work a node is: of a module, or of the one in whose forward it stands."""
        if node.kind in ("module", "function"):
            self.between.add(node.name if node.kind == "module" else node.scope)

    def readers(self, index: int) -> list[Node]:
        """The nodes that read the values of one."""
        return [
            node
            for node in self.flow.readers[index]
            if node.kind == "output" or (operation(node) not in _SHAPE_ONLY and index in self.values_of(node))
        ]

    def values_of(self, node: Node) -> tuple[int, ...]:
        """The inputs whose values a node reads: of `x.view_as(y)` the first alone."""
        return node.inputs[:1] if operation(node) in _LIKE else node.inputs

    def is_idle(self, node: Node) -> bool:
        """Whether it is a norm that was folded with nothing left in its place."""
        return node.kind == "module" and self.idle.get(id(node.module)) == ()

    def shape(self, node: Node) -> tuple[int, ...]:
        """Of its first input."""
        return self.flow.nodes[node.inputs[0]].shape


class Before(Walk):
    """Back from the norm's input."""

    def back(self, index: int, reader: Node, field: Field) -> None:
        """Ask for the field at the output of a node. Raises Blocked."""
        node = self.flow.nodes[index]
        self.passes(node)
        if node.kind == "input":
            raise Blocked("it reads the network's input")
        if node.kind == "module" and is_weights(node.module):
            self._alone(node, reader)
            self.ask(node, field.along(_output_axis(node)))
        elif operation(node) in _CATS:
            self._alone(node, reader)
            self._split(node, field)
        elif len(self.values_of(node)) != 1:
            raise Blocked(f"it follows {_called(node)}", node.name)
        elif self.is_idle(node):
            self._alone(node, reader)
            self.back(node.inputs[0], node, field)
        else:
            moved = _moved("it follows", node, self.shape(node), field, back=True)
            self._alone(node, reader)
            self.back(node.inputs[0], node, moved)

    def _alone(self, node: Node, reader: Node) -> None:
        """Raises Blocked where something else reads the output of the node, which is to change."""
        others = [other for other in self.readers(node.index) if other is not reader]
        if others:
            text = f"the output of {_called(node)} is read by {_called(others[0])} too"
            if others[0].kind == "output":
                text = f"the output of {_called(node)} is an output of the network too"
            raise Blocked(text, others[0].name, touchable=not is_weights(node.module))

    def _split(self, node: Node, field: Field) -> None:
        axis = _cat_axis(node)
        start = 0
        for index in node.inputs:
            size = self.flow.nodes[index].shape[axis]
            begin, start = start, start + size
            part = (tensor.narrow(axis, begin, size) for tensor in (field.scale, field.shift))
            others = [other for other in self.readers(index) if other is not node]
            if others and self.flow.nodes[index].kind != "input":
                raise Blocked("it follows a concatenation of values that other layers read too", node.name)
            self.back(index, node, Field(*part))
        if start != node.shape[axis]:
            raise Blocked(f"it follows {_called(node)}", node.name)


class After(Walk):
    """On from the norm's output, to everything that reads it."""

    def on(self, index: int, field: Field) -> None:
        """Ask every reader of a node for the field at its output. Raises Blocked."""
        readers = self.readers(index)
        if not readers:
            raise Blocked("nothing reads its output")
        for node in readers:
            self.passes(node)
            if node.kind == "output":
                raise Blocked("its output is the network's")
            if node.kind == "module" and is_weights(node.module):
                self.ask(node, field.along(self._input_axis(node, index)))
            elif operation(node) in _CATS:
                self.on(node.index, self._joined(node, index, field))
            elif len(self.values_of(node)) != 1:
                raise Blocked(f"it goes to {_called(node)}", node.name)
            elif self.is_idle(node):
                self.on(node.index, field)
            else:
                shape = self.flow.nodes[index].shape
                self.on(node.index, _moved("it goes to", node, shape, field, back=False))

    def _input_axis(self, node: Node, index: int) -> int:
        """Along which the layer multiplies."""
        if isinstance(node.module, nn.MultiheadAttention):
            if set(node.inputs) != {index} or not node.module._qkv_same_embed_dim:
                raise Blocked("it goes to attention over more than its output", node.name)
            return -1
        if set(node.inputs) != {index}:
            raise Blocked(f"it goes to {_called(node)}", node.name)
        return -1 - _spatial(node.module)

    def _joined(self, node: Node, index: int, field: Field) -> Field:
        axis = _cat_axis(node)
        if sum(self.flow.nodes[each].shape[axis] for each in node.inputs) != node.shape[axis]:
            raise Blocked("it goes to a concatenation with constants, or with itself", node.name)
        parts = []
        for each in node.inputs:
            shape = self.flow.nodes[each].shape
            ones = torch.ones((), dtype=torch.float64).expand(shape)
            parts.append(field if each == index else Field(ones, torch.zeros_like(ones)))
        return Field(torch.cat([p.scale for p in parts], axis), torch.cat([p.shift for p in parts], axis))


def _moved(words: str, node: Node, shape: tuple[int, ...], field: Field, *, back: bool) -> Field:
    """Through one node. Raises Blocked, in words that say on which side it stands."""
    written = Blocked("a view of what stands between is written in place", node.name)
    if (node.shape if back else shape) != field.scale.shape:  # the record has the shape of the view
        raise written
    try:
        return (backwards if back else forwards)(node, shape, field)
    except (RuntimeError, IndexError) as error:
        raise written from error
    except Blocked as blocked:
        if blocked.reason == f"{operation(node)} stands between":
            raise Blocked(f"{words} {_called(node)}", node.name) from blocked
        raise


def _called(node: Node) -> str:
    """A node in words."""
    if node.kind == "output":
        return "the network's output"
    if node.kind == "input":
        return "the network's input"
    if node.module is None and node.name == "unknown":
        return "a step that the trace does not see"
    return (
        type(node.module).__name__
        if node.module is not None
        else _WORDS.get(operation(node), operation(node))
    )


def _spatial(module: nn.Module | None) -> int:
    return len(module.kernel_size) if isinstance(module, _ConvNd) else 0


def _output_axis(node: Node) -> int:
    if isinstance(node.module, nn.MultiheadAttention):
        raise Blocked("it follows attention", node.name)
    return -1 - _spatial(node.module)


def _cat_axis(node: Node) -> int:
    axis = node.named_arguments.get(
        "dim", node.named_arguments.get("axis", node.arguments[-1] if node.arguments else 0)
    )
    if not isinstance(axis, int) or not node.shape:
        raise Blocked("a concatenation with an axis that is not known", node.name)
    return axis % len(node.shape)


def _equal(one: Affine, other: Affine) -> bool:
    return torch.equal(one.scale, other.scale) and torch.equal(one.shift, other.shift)
