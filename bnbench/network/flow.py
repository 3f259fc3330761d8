"""The flow of data through a network, recorded in one real forward pass: every module and torch function, in order.

Control flow is Python's own, so that the path that was taken is seen, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bnbench.network.norm_site import Node

#: What a network is called with: one tensor, several by position, or several by name.
Arguments = Any
#: Words for one function.
_SAME = {"concat": "cat", "concatenate": "cat", "iadd": "add", "radd": "add", "imul": "mul", "rmul": "mul"}

#: What makes Python's or NumPy's numbers of a tensor, and tensors of those.
_READS = frozenset("item tolist numpy bool float int complex index array format".split())
_FROM_OUTSIDE = frozenset(
    "tensor as_tensor from_numpy frombuffer asarray from_dlpack scalar_tensor full".split()
)


@dataclass
class _Event:
    """A call that gave tensors. module: None of a function. inputs: the events that gave its tensors.

    insides: of a module, by output: the event within it that gave this output, None where none was seen.
    """

    index: int
    name: str
    scope: str
    module: nn.Module | None = None
    kind: str = "function"
    inputs: list[int] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    arguments: tuple[object, ...] = ()
    named: Mapping[str, object] = field(default_factory=dict)
    inside: int | None = None
    start: int = 0


@dataclass
class Call:
    """A module that was called with a tensor. shape, output: of the first tensor in and out; None for no tensor."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    dtype: torch.dtype
    output: tuple[int, ...] | None = None
    further: tuple[str, ...] = ()


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


def call(model: nn.Module, arguments: Arguments) -> Any:
    """The network's output for one tensor, a tuple of arguments, or a mapping of named ones."""
    if isinstance(arguments, Mapping):
        return model(**arguments)
    if isinstance(arguments, tuple | list):
        return model(*arguments)
    return model(arguments)


class Recorder(TorchFunctionMode):
    """Records the calls of one forward pass of `model`, as events; `nodes` then makes the record of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[Call] = []
        self._events: list[_Event] = []
        self._sources: dict[int, int] = {}
        self._reads: list[int] = []
        self._kept: list[Any] = []  # so that no identity is used twice
        self._scopes: list[tuple[str, int, list[int], int]] = []
        self._constants = {id(tensor) for module in model.modules() for tensor in _held(module)}

    def run(self, arguments: Arguments) -> None:
        """Call the network; the recording ends with the first exception."""
        with ExitStack() as stack:
            self._follow(stack)
            self._inputs(arguments)
            with self:
                output = call(self.model, arguments)
            given = list(tensors_in(output))
            event = self._add("output", "", kind="output", inputs=self._sources_of(given))
            event.shape = tuple(given[0].shape) if given else ()

    def _inputs(self, arguments: Arguments) -> None:
        if not isinstance(arguments, Mapping):
            several = arguments if isinstance(arguments, tuple | list) else (arguments,)
            arguments = {str(position): value for position, value in enumerate(several)}
        for name, value in arguments.items():
            for tensor in tensors_in(value):
                event = self._add(name, "", kind="input")
                event.shape = tuple(tensor.shape)
                self._gives(event, tensor)

    def _follow(self, stack: ExitStack) -> None:
        for name, module in self.model.named_modules():
            with suppress(Exception):  # a scripted module takes no such hook
                before = module.register_forward_pre_hook(self._enters(name), with_kwargs=True)
                stack.callback(before.remove)
                after = module.register_forward_hook(self._leaves(name), with_kwargs=True)
                stack.callback(after.remove)

    def _enters(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, named: Any) -> None:
            with torch._C.DisableTorchFunction():
                given = list(tensors_in((arguments, named)))
                self._scopes.append((name, len(self._events), self._sources_of(given), len(self.calls)))
                first = given[0] if given else None
                shape = tuple(first.shape) if first is not None else ()
                dtype = first.dtype if first is not None else torch.float32
                further = tuple(
                    [key for key, value in named.items() if isinstance(value, Tensor)]
                    + [
                        f"argument {i}"
                        for i, value in enumerate(arguments)
                        if i and isinstance(value, Tensor)
                    ]
                )
                self.calls.append(Call(name, module, shape, dtype, further=further))

        return hook

    def _leaves(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
            with torch._C.DisableTorchFunction():
                while self._scopes and self._scopes[-1][0] != name:
                    self._scopes.pop()
                if not self._scopes:
                    return
                _, start, inputs, number = self._scopes.pop()
                given = list(tensors_in(output))
                if isinstance(output, Tensor):
                    self.calls[number].output = tuple(output.shape)
                rest = tuple(value for value in arguments if not any(True for _ in tensors_in(value)))
                others = {k: v for k, v in named.items() if not any(True for _ in tensors_in(v))}
                for tensor in given:
                    inside = self._sources.get(id(tensor))
                    if inside is None and len(self._events) > start and id(tensor) not in self._constants:
                        inside = self._unknown(tensor, start, inputs)
                    event = self._add(name, self._scope(), module=module, kind="module", inputs=inputs)
                    event.shape, event.inside, event.start = tuple(tensor.shape), inside, start
                    event.arguments, event.named = rest, others
                    self._gives(event, tensor)

        return hook

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call it, and note which tensors went in, came out, or were changed in place."""
        kwargs = kwargs or {}
        given = list(tensors_in((args, kwargs)))
        versions = [_version(tensor) for tensor in given]
        inputs = self._sources_of(given)
        output = func(*args, **kwargs)
        changed = [
            tensor for tensor, version in zip(given, versions, strict=True) if _version(tensor) != version
        ]
        made = list(tensors_in(output))
        name = function_name(func)
        if name in _READS and inputs and not made:
            self._reads.append(self._add(name, self._scope(), inputs=inputs).index)
        elif name in _FROM_OUTSIDE and not inputs and self._reads:  # perhaps of numbers that were read before
            for tensor in made:
                self._gives(self._add("unknown", self._scope(), inputs=list(self._reads)), tensor)
        elif changed or (made and not all(id(tensor) in self._constants for tensor in made)):
            event = self._add(name, self._scope(), inputs=inputs)
            event.arguments = tuple(value for value in args if not self._flows(value))
            event.named = {key: value for key, value in kwargs.items() if not self._flows(value)}
            event.shape = tuple((made or changed)[0].shape)
            for tensor in (*made, *changed):
                self._gives(event, tensor)
            for tensor in changed:
                self._gives_to_views(event, tensor)
        return output

    def _flows(self, value: object) -> bool:
        """Whether an argument is a tensor that some event gave, or holds one."""
        return any(id(tensor) in self._sources for tensor in tensors_in(value))

    def _sources_of(self, tensors: list[Tensor]) -> list[int]:
        found: list[int] = []
        for tensor in tensors:
            if id(tensor) in self._sources:
                found.append(self._sources[id(tensor)])
            elif id(tensor) not in self._constants and self._scopes:
                _, start, inputs, _ = self._scopes[-1]
                found.append(self._unknown(tensor, start, inputs))
        return list(dict.fromkeys(found))

    def _unknown(self, tensor: Tensor, start: int, inputs: list[int]) -> int:
        """A tensor that no recorded call gave, as of torch.autograd.Function: all that its module saw may be in it."""
        reachable = list(dict.fromkeys([*inputs, *range(start, len(self._events))]))
        event = self._add("unknown", self._scope(), inputs=reachable)
        event.shape = tuple(tensor.shape)
        self._gives(event, tensor)
        return event.index

    def _gives(self, event: _Event, tensor: Tensor) -> None:
        if id(tensor) not in self._constants:  # a buffer that moves is no flow of data
            self._sources[id(tensor)] = event.index
            self._kept.append(tensor)

    def _gives_to_views(self, event: _Event, tensor: Tensor) -> None:
        """What was changed in place has changed under its other names, too."""
        place = _place(tensor)
        for other in self._kept if place else ():
            if other is not tensor and _place(other) == place:
                self._sources[id(other)] = event.index

    def _scope(self) -> str:
        return self._scopes[-1][0] if self._scopes else ""

    def _add(self, name: str, scope: str, **more: Any) -> _Event:
        event = _Event(len(self._events), name, scope, **more)
        self._events.append(event)
        return event

    def nodes(self, is_leaf: Callable[[nn.Module], bool]) -> tuple[Node, ...]:
        """The record. is_leaf: whether a call of a module is one node; else what it calls are nodes."""
        return _Condensed(self._events, is_leaf).nodes()


class _Condensed:
    """Events made nodes: those inside a leaf become this leaf, and modules that are no leaf vanish."""

    def __init__(self, events: list[_Event], is_leaf: Callable[[nn.Module], bool]) -> None:
        self.events = events
        self.leaf_of: dict[int, int] = {}
        # the outermost leaf comes last, so it overwrites those inside
        for event in events:
            if event.module is not None and (is_leaf(event.module) or event.inside is None):
                for index in range(event.start, event.index):
                    self.leaf_of[index] = event.index
                self.leaf_of[event.index] = event.index

    def _target(self, index: int) -> int:
        """The event that stands for it in the record."""
        while True:
            if index in self.leaf_of and self.leaf_of[index] != index:
                index = self.leaf_of[index]
                continue
            event = self.events[index]
            if event.module is None or index in self.leaf_of or event.inside is None:
                break
            index = event.inside
        return index

    def nodes(self) -> tuple[Node, ...]:
        inputs: dict[int, list[int]] = {}
        for event in self.events:
            target = self._target(event.index)
            if event.module is not None and target != event.index:
                continue
            sources = (self._target(index) for index in event.inputs)
            inputs.setdefault(target, []).extend(index for index in sources if index != target)
        order = sorted(inputs)
        numbers = {index: number for number, index in enumerate(order)}
        made: list[Node] = []
        for index in order:
            event = self.events[index]
            # of a leaf: what came from outside it, and nothing that its own calls gave
            given = list(dict.fromkeys(numbers[i] for i in inputs[index] if i in numbers and i < index))
            made.append(
                Node(
                    numbers[index],
                    event.kind,  # type: ignore[arg-type]
                    event.name,
                    event.module,
                    tuple(given),
                    event.scope,
                    event.shape,
                    event.arguments,
                    event.named,
                )
            )
        return tuple(made)


def function_name(func: Callable[..., Any]) -> str:
    """For example "relu" for torch.relu_, "add" for +, "T" for the property."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    name = name.strip("_")
    return _SAME.get(name, name)


def _held(module: nn.Module) -> Iterator[Tensor]:
    """Its tensors, registered or not."""
    yield from (value for value in module._parameters.values() if value is not None)
    yield from (value for value in module._buffers.values() if value is not None)
    yield from tensors_in([value for name, value in vars(module).items() if not name.startswith("_")])


def _version(tensor: Tensor) -> int:
    try:
        return int(tensor._version)
    except RuntimeError:  # made in inference mode
        return 0


def _place(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or without storage
        return 0
