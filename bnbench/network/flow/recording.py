"""The flow of data through a network, recorded in one real forward pass: every module and torch function, in order.

Control flow is Python's own: the path that was taken is seen, and no other. What no torch function gives (a tensor out
of a compiled extension, out of NumPy) is an "unknown" function of everything that its module saw so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from bnbench.network.flow.nodes import Event, nodes_of, tensors_given, tensors_in
from bnbench.network.sites.norm_site import READS, Node

#: Words for one function.
_SAME = {"concat": "cat", "concatenate": "cat", "iadd": "add", "radd": "add", "imul": "mul", "rmul": "mul"}
#: What makes tensors of Python's or NumPy's numbers.
_FROM_OUTSIDE = frozenset(
    "tensor as_tensor from_numpy frombuffer asarray from_dlpack scalar_tensor full".split()
)


@dataclass
class Call:
    """A module that was called with a tensor. shape, dtype: of the first one. output: None where it gave no tensor.

    further: the other tensors, by name or position, without masks.
    """

    module: nn.Module
    shape: tuple[int, ...]
    dtype: torch.dtype
    output: tuple[int, ...] | None = None
    further: tuple[str, ...] = ()


def call(model: nn.Module, arguments: Any) -> Any:
    """The network's output for one tensor, a tuple of arguments, or a mapping of named ones."""
    if isinstance(arguments, Mapping):
        return model(**arguments)
    if isinstance(arguments, tuple | list):
        return model(*arguments)
    return model(arguments)


@dataclass
class _Scope:
    """A module that is at work. start: the number of events before it. call: its index among the calls."""

    name: str
    start: int
    inputs: list[int]
    call: int


class Recorder(TorchFunctionMode):
    """Records the calls of one forward pass of `model`; `nodes` then makes the record of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[Call] = []
        self.events: list[Event] = []
        self._names = {id(module): name for name, module in model.named_modules()}
        # kept, so that no other tensor has the identity of one that the pass replaces
        self._constants = {id(tensor): tensor for module in model.modules() for tensor in _held(module)}
        self._sources: dict[int, int] = {}
        self._reads: list[int] = []
        self._kept: list[Tensor] = []  # so that no identity is used twice
        self._scopes: list[_Scope] = []

    def run(self, arguments: Any) -> Any:
        """Call the network, and give its output; the recording ends with the first exception."""
        with ExitStack() as stack:
            self._follow(stack)
            self._take(arguments)
            with self:
                output = call(self.model, arguments)
        given = list(tensors_given(output))
        self._add("output", "output", self._sources_of(given), given[:1])
        return output

    def nodes(self, is_leaf: Callable[[nn.Module], bool]) -> tuple[Node, ...]:
        """The record. is_leaf: whether a call of a module is one node; else what it calls are nodes."""
        return nodes_of(self.events, is_leaf)

    def _take(self, arguments: Any) -> None:
        if not isinstance(arguments, Mapping):
            several = arguments if isinstance(arguments, tuple | list) else (arguments,)
            arguments = {str(position): value for position, value in enumerate(several)}
        for name, value in arguments.items():
            for tensor in tensors_in(value):
                self._gives(self._add("input", name, [], [tensor]), tensor)

    def _follow(self, stack: ExitStack) -> None:
        scripted = False
        for module in self.model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                scripted = True
                continue
            with suppress(RuntimeError):
                stack.callback(module.register_forward_pre_hook(self._enters, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(self._leaves, with_kwargs=True).remove)
        if scripted:  # which take no hooks of their own
            stack.callback(register_module_forward_pre_hook(self._enters_scripted).remove)
            stack.callback(register_module_forward_hook(self._leaves_scripted).remove)

    def _enters_scripted(self, module: nn.Module, arguments: Any) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            self._enters(module, arguments, {})

    def _leaves_scripted(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            self._leaves(module, arguments, {}, output)

    def _enters(self, module: nn.Module, arguments: Any, named: Any) -> None:
        with torch._C.DisableTorchFunction():
            given = list(tensors_in((arguments, named)))
            inputs = self._sources_of(given)
            self._scopes.append(
                _Scope(self._names.get(id(module), ""), len(self.events), inputs, len(self.calls))
            )
            first = given[0] if given else torch.empty(0)
            further = [
                key for key, value in named.items() if isinstance(value, Tensor) and value is not first
            ]
            further += [str(i) for i, value in enumerate(arguments) if i and isinstance(value, Tensor)]
            self.calls.append(
                Call(module, tuple(first.shape) if given else (), first.dtype, further=tuple(further))
            )

    def _leaves(self, module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
        with torch._C.DisableTorchFunction():
            name = self._names.get(id(module), "")
            while self._scopes and self._scopes[-1].name != name:  # one that raised, and was caught
                self._scopes.pop()
            if not self._scopes:
                return
            scope = self._scopes.pop()
            if isinstance(output, Tensor):
                self.calls[scope.call].output = tuple(output.shape)
            for tensor in tensors_in(output):
                inside = self._sources.get(id(tensor))
                if inside is None and len(self.events) > scope.start and id(tensor) not in self._constants:
                    inside = self._unknown(tensor, scope)
                event = self._add("module", name, scope.inputs, [tensor])
                event.module, event.inside, event.start = module, inside, scope.start
                event.arguments = tuple(
                    value for value in arguments if not any(True for _ in tensors_in(value))
                )
                event.named = {k: v for k, v in named.items() if not any(True for _ in tensors_in(v))}
                self._gives(event, tensor)

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
        # a cast that does nothing gives back what it was given: that is no step
        same = {id(tensor) for tensor in given} if not changed else set()
        made, name = [value for value in tensors_in(output) if id(value) not in same], function_name(func)
        if name in READS and inputs and not made:
            self._reads.append(self._add("function", name, inputs, []).index)
        elif name in _FROM_OUTSIDE and not inputs and self._reads:  # perhaps of numbers that were read before
            for tensor in made:
                self._gives(self._add("function", "unknown", list(self._reads), [tensor]), tensor)
        elif changed or (made and not all(id(tensor) in self._constants for tensor in made)):
            event = self._add("function", name, inputs, made or changed)
            event.arguments = tuple(value for value in args if not self._flows(value))
            event.named = {key: value for key, value in kwargs.items() if not self._flows(value)}
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
                found.append(self._unknown(tensor, self._scopes[-1]))
        return list(dict.fromkeys(found))

    def _unknown(self, tensor: Tensor, scope: _Scope) -> int:
        """A tensor that no recorded call gave: all that its module saw may be in it."""
        reachable = dict.fromkeys([*scope.inputs, *range(scope.start, len(self.events))])
        event = self._add("function", "unknown", list(reachable), [tensor])
        self._gives(event, tensor)
        return event.index

    def _gives(self, event: Event, tensor: Tensor) -> None:
        if id(tensor) not in self._constants:  # a buffer that moves is no flow of data
            self._sources[id(tensor)] = event.index
            self._kept.append(tensor)

    def _gives_to_views(self, event: Event, tensor: Tensor) -> None:
        """What was changed in place has changed under its other names, too."""
        place = _place(tensor)
        for other in self._kept if place else ():
            if other is not tensor and _place(other) == place:
                self._sources[id(other)] = event.index

    def _add(self, kind: Any, name: str, inputs: list[int], tensors: list[Tensor]) -> Event:
        scope = self._scopes[-1].name if self._scopes else ""
        event = Event(len(self.events), kind, name, scope, inputs)
        event.shape = tuple(tensors[0].shape) if tensors else ()
        self.events.append(event)
        return event


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
