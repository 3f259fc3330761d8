"""A scale and a shift as fields over an activation, moved through what stands between a norm and its layer of weights.

A field has the activation's shape (expanded, so it takes no memory). What only rearranges values moves fields as it
moves values. What averages them keeps a scale * x + shift where both are constant over what is averaged, and a maximum
keeps it where the scale is not negative. Everything else blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bnbench.network.fold.affine import Affine
from bnbench.network.fold.blocked import Blocked
from bnbench.network.sites.norm_site import Node

SAME = {"identity", "contiguous", "clone", "detach", "alias", "lift_fresh_copy"}
#: Identities in inference, unless they are made to work there too. Where a function takes `training`.
_DROPS = {"stochastic_depth": 2, "drop_path": 1}
#: Casts: of a real type they keep a value up to its rounding.
_CASTS = {"to", "type_as", "type", "float", "double", "half", "bfloat16", "cpu", "cuda"}
_RESHAPES = {
    *(
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "_unsafe_view",
        "view_copy",
        "view_as",
    ),
}
_PERMUTES = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "mt"}
_SHUFFLES = {
    "pixelshuffle",
    "pixel_shuffle",
    "channelshuffle",
    "channel_shuffle",
    "pixelunshuffle",
    "pixel_unshuffle",
}
_POOL = re.compile(r"(adaptive)?_?(avg|max)_?pool([123])d$")
_RESIZES = {"upsample", "upsamplingnearest2d", "upsamplingbilinear2d", "interpolate"}


@dataclass(frozen=True)
class Field:
    """scale and shift at every place of an activation, of its shape."""

    scale: Tensor
    shift: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Field:
        """The same change of both."""
        return Field(change(self.scale), change(self.shift))

    def along(self, axis: int) -> Affine:
        """As vectors along one axis. Raises Blocked where they vary along another."""
        return Affine(*(_along(values, axis) for values in (self.scale, self.shift)))


def _along(values: Tensor, axis: int) -> Tensor:
    axis %= values.dim()
    first = values[tuple(slice(None) if i == axis else 0 for i in range(values.dim()))]
    others = [i for i in range(values.dim()) if i != axis]
    if all(values.stride(i) == 0 or values.shape[i] == 1 for i in others):
        return first.contiguous()
    view = [1] * values.dim()
    view[axis] = -1
    if bool((values != first.reshape(view)).any()):
        raise Blocked("its channels are not the layer's: they lie along another axis")
    return first.contiguous()


def operation(node: Node) -> str:
    """The lower-case name of what a node does: "cat" for torch.cat and aten.cat.default, "relu" for nn.ReLU."""
    if node.module is not None and node.kind == "module":
        return type(node.module).__name__.lower()
    name = node.name.removesuffix(".default").rpartition(":")[2].strip()
    return re.sub(r"\.(int|dim|Tensor|self|using_ints)$", "", name).rpartition(".")[2].lower()


def forwards(node: Node, shape: tuple[int, ...], field: Field) -> Field:
    """The field of a node's output, from the field of its input, which has that shape. Raises Blocked."""
    return _move(node, shape, field, back=False)


def backwards(node: Node, shape: tuple[int, ...], field: Field) -> Field:
    """The field of a node's input, which has that shape, from the field of its output. Raises Blocked."""
    return _move(node, shape, field, back=True)


def _move(node: Node, shape: tuple[int, ...], field: Field, back: bool) -> Field:
    name = operation(node)
    target = shape if back else node.shape
    if name in SAME or _is_idle(node, name) or (name in _CASTS and _stays_real(node)):
        return field
    if not target or not node.shape:
        raise Blocked("a shape is not known", node.name)
    if name in _RESHAPES:
        if field.scale.numel() != torch.Size(target).numel():
            raise Blocked(f"{name} stands between")
        return field.map(lambda values: values.reshape(target))
    if name in _PERMUTES:
        order = _order(node, name, len(shape))
        inverse = [order.index(axis) for axis in range(len(order))]
        return field.map(lambda values: values.permute(inverse if back else order))
    if name in _SHUFFLES:
        return field.map(lambda values: _shuffled(node, name, values, shape, back))
    if (axes := _merged(node, name, len(shape))) is not None:
        if "max" in name and bool((field.scale < 0).any()):
            raise Blocked("a maximum stands between, and the scale of some channels is negative", node.name)
        return field.map(lambda values: _spread(values, node, axes, shape, back))
    if name in {"getitem", "select", "slice"} and not back:
        return field.map(lambda values: _indexed(node, name, values))
    raise Blocked(f"{name} stands between", node.name)


def _stays_real(node: Node) -> bool:
    """Whether a cast goes to a real type."""
    given = [
        value for value in (*node.arguments, *node.named_arguments.values()) if isinstance(value, torch.dtype)
    ]
    return all(dtype.is_floating_point for dtype in given) and node.kind == "function"


def _is_idle(node: Node, name: str) -> bool:
    """Whether it is a dropout, which does nothing in inference. Raises Blocked where it works there too."""
    if "drop" not in name or (
        name not in _DROPS and not re.search(r"drop(out|path|block)?[123]?d?_?$|stochastic", name)
    ):
        return False
    if node.kind == "module":
        works = node.module is not None and node.module.training
    else:
        works = bool(_option(node, _DROPS.get(name, 1), "training", "alpha" not in name))
    if works:
        raise Blocked("a dropout that works in inference too stands between", node.name)
    return True


def _order(node: Node, name: str, rank: int) -> list[int]:
    """The permutation of the axes that the node applies."""
    if rank == 0 or rank > 7:
        raise Blocked(f"{name} stands between", node.name)
    probe = torch.empty((2, 3, 5, 7, 11, 13, 17)[:rank])
    arguments, named = node.arguments, dict(node.named_arguments)
    if node.kind == "module":
        arguments, named = (getattr(node.module, "dims", None),), {}
    call = "mT" if name == "mt" else name
    try:
        value = getattr(probe, call)
        moved = value(*arguments, **named) if callable(value) else value
    except (TypeError, RuntimeError, AttributeError, IndexError) as error:
        raise Blocked(f"{name} stands between", node.name) from error
    return [probe.shape.index(size) for size in moved.shape]


def _shuffled(node: Node, name: str, values: Tensor, shape: tuple[int, ...], back: bool) -> Tensor:
    where = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    if node.kind == "module":
        assert node.module is not None
        moved = node.module(where)
    else:
        moved = getattr(torch.nn.functional, name)(where, *node.arguments, **node.named_arguments)
    places = moved.long().flatten()
    flat = values.reshape(-1)
    return (torch.empty_like(flat).index_copy(0, places, flat) if back else flat[places]).reshape(
        shape if back else moved.shape
    )


def _merged(node: Node, name: str, rank: int) -> list[int] | None:
    """The axes whose values are averaged with weights that sum to 1, or of which the largest is taken; else None."""
    if match := _POOL.search(name):
        adaptive, kind, dims = match.groups()
        if kind == "avg" and not adaptive and not _averages(node):
            raise Blocked("an average over padding stands between", node.name)
        if kind == "max" and _option(node, 6, "return_indices", False):
            raise Blocked("a maximum with indices stands between", node.name)
        return list(range(rank - int(dims), rank))
    if name in _RESIZES:
        return list(range(2, rank))
    if name == "mean":
        axes = _option(node, 0, "dim", node.named_arguments.get("axis"))
        if axes is None or _option(node, 2, "dtype", None) is not None:
            raise Blocked("an average over everything stands between", node.name)
        return [axis % rank for axis in ([axes] if isinstance(axes, int) else axes)]
    return None


def _averages(node: Node) -> bool:
    """Whether the weights of an average pool sum to 1 at every place: no zeros of its padding are counted."""
    padding = _option(node, 2, "padding", 0)
    padded = any(padding) if isinstance(padding, (tuple, list)) else bool(padding)
    counts = bool(_option(node, 4, "count_include_pad", True))
    return _option(node, 5, "divisor_override", None) is None and not (padded and counts)


def _option(node: Node, position: int, name: str, default: Any) -> Any:
    """An option of a module, or an argument of a function after its input."""
    if node.kind == "module":
        return getattr(node.module, name, default)
    named: Mapping[str, Any] = node.named_arguments
    if name in named:
        return named[name]
    return node.arguments[position] if len(node.arguments) > position else default


def _spread(values: Tensor, node: Node, axes: list[int], shape: tuple[int, ...], back: bool) -> Tensor:
    """Values that are constant over the axes, at the sizes of the other side. Raises Blocked where they vary."""
    keeps = len(node.shape) == len(shape)
    if back:
        if not keeps:
            for axis in sorted(axes):
                values = values.unsqueeze(axis)
        return _constant(values, axes, node).expand(shape)
    one = _constant(values, axes, node)
    if keeps:
        return one.expand(node.shape)
    for axis in sorted(axes, reverse=True):
        one = one.squeeze(axis)
    return one


def _constant(values: Tensor, axes: list[int], node: Node) -> Tensor:
    one = values
    for axis in axes:
        one = one.narrow(axis, 0, 1)
    varies = any(values.stride(axis) != 0 and values.shape[axis] > 1 for axis in axes)
    if varies and bool((values != one).any()):
        raise Blocked("what stands between mixes channels", node.name)
    return one


def _indexed(node: Node, name: str, values: Tensor) -> Tensor:
    try:
        if name == "getitem":
            return values[node.arguments[0]]  # type: ignore[index]
        if name == "select":
            return values.select(*node.arguments)  # type: ignore[arg-type]
        return torch.ops.aten.slice(values, *node.arguments)  # type: ignore[no-any-return]
    except (TypeError, IndexError, RuntimeError) as error:
        raise Blocked(f"{name} stands between", node.name) from error
