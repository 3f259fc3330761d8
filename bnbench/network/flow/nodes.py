"""The nodes of a network's flow of data, made from the events of one recorded pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import ModuleType
from typing import Literal

from torch import Tensor, nn

from bnbench.network.sites.norm_site import Node


@dataclass
class Event:
    """A call that gave a tensor, or changed one in place. inputs: the events that gave its tensors.

    Of a module there is one for each output: inside is the event within it that gave this output, None where none was
    seen; start is the number of events when it was entered.
    """

    index: int
    kind: Literal["input", "module", "function", "output"]
    name: str
    scope: str = ""
    inputs: Sequence[int] = ()
    module: nn.Module | None = None
    shape: tuple[int, ...] = ()
    arguments: tuple[object, ...] = ()
    named: Mapping[str, object] = field(default_factory=dict)
    inside: int | None = None
    start: int = 0


def tensors_in(value: object, depth: int = 4) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(value, tuple | list | set):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from tensors_in(getattr(value, entry.name, None), depth - 1)


def attributes_of(value: object) -> dict[str, object]:
    """The attributes of an object of the user's that may hold tensors; none of a module, a class or a function."""
    if isinstance(value, nn.Module | type | ModuleType) or callable(value):
        return {}
    slots = (name for each in type(value).__mro__ for name in getattr(each, "__slots__", ()))
    return {name: getattr(value, name, None) for name in (*getattr(value, "__dict__", ()), *slots)}


def tensors_given(output: object, depth: int = 8) -> Iterator[Tensor]:
    """Every tensor in what a network gives, also in objects of its own classes, in order."""
    if isinstance(output, Tensor):
        yield output
        return
    if isinstance(output, Mapping):
        items: Iterable[object] = output.values()
    else:
        items = output if isinstance(output, tuple | list | set) else attributes_of(output).values()
    for item in items if depth else ():
        yield from tensors_given(item, depth - 1)


def nodes_of(events: Sequence[Event], is_leaf: Callable[[nn.Module], bool]) -> tuple[Node, ...]:
    """Events as nodes: those inside a leaf become this leaf, and a module that is no leaf vanishes.

    is_leaf: whether a call of the module is one node. A module in which nothing was seen is one, too.
    """
    leaf_of = _leaves(events, is_leaf)

    def target(index: int) -> int:
        """The event that stands for it."""
        while True:
            leaf, event = leaf_of.get(index), events[index]
            if leaf is not None and leaf != index:
                index = leaf
            elif leaf is None and event.module is not None and event.inside is not None:
                index = event.inside
            else:
                return index

    inputs: dict[int, list[int]] = {}
    for event in events:
        stands = target(event.index)
        if event.module is None or stands == event.index:
            inputs.setdefault(stands, []).extend(target(index) for index in event.inputs)
    numbers = {index: number for number, index in enumerate(sorted(inputs))}
    made: list[Node] = []
    data: set[int] = set()  # the nodes that an input of the network has a part in
    for index, number in numbers.items():
        event = events[index]
        given = dict.fromkeys(numbers[i] for i in inputs[index] if i < index and i in numbers)
        if event.kind == "input" or data & given.keys():
            data.add(number)
            if event.module is not None:  # and not what a hook makes of its own parameters
                given = {i: None for i in given if i in data}
        node = Node(number, event.kind, event.name, event.module, tuple(given), event.scope, event.shape)
        made.append(_with_arguments(node, event))
    return tuple(made)


def _with_arguments(node: Node, event: Event) -> Node:
    return Node(**{**vars(node), "arguments": event.arguments, "named_arguments": event.named})


def _leaves(events: Sequence[Event], is_leaf: Callable[[nn.Module], bool]) -> dict[int, int]:
    """By event: the outermost leaf that it belongs to. The outermost is left last, so it overwrites those inside."""
    found: dict[int, int] = {}
    for event in events:
        nothing_seen = event.inside is None and event.start == event.index
        if event.module is not None and (nothing_seen or is_leaf(event.module)):
            found.update(dict.fromkeys(range(event.start, event.index + 1), event.index))
    return found
