"""A private copy of one module, on the CPU in float64 with random parameters, to be tried."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from bnbench.base.process_state import left_as_found, seed_streams
from bnbench.base.user_code import raise_interrupt
from bnbench.network.flow.recording import function_name
from bnbench.norms.behaviour import ModuleState

CPU = torch.device("cpu")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
#: Functions beside the normalization that a layer may hold.
EXTRAS = frozenset(
    "relu relu6 gelu silu sigmoid tanh leaky_relu elu selu celu hardswish hardsigmoid hardtanh mish softplus softsign "
    "logsigmoid threshold rrelu prelu dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout".split()
)


def private_copy(module: nn.Module) -> nn.Module:
    """A copy without hooks and parametrizations, on the CPU. Raises what copying it raises."""
    if any(is_lazy(value) for value in (*module.parameters(), *module.buffers())):
        raise ValueError("its parameters have no shape before its first call")
    with ExitStack() as stack:
        for inner in module.modules():
            for name in _HOOKS:
                if isinstance(vars(inner).get(name), OrderedDict) and vars(inner)[name]:
                    stack.callback(vars(inner).__setitem__, name, vars(inner)[name])
                    vars(inner)[name] = OrderedDict()
        twin = copy.deepcopy(module)
    for inner in list(twin.modules()):
        if parametrize.is_parametrized(inner):
            _unparametrize(inner)
    meta = any(value.is_meta for value in (*twin.parameters(), *twin.buffers()))
    twin = twin.to_empty(device=CPU) if meta else twin.to(CPU)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (*twin.parameters(), *twin.buffers()):
            if value.is_floating_point() and value.dim():
                value.copy_(0.5 + torch.rand(value.shape, generator=draw))
            elif meta and value.is_floating_point():
                value.fill_(1)
            elif meta:
                value.zero_()
        twin = twin.double()
    return twin


def _unparametrize(module: nn.Module) -> None:
    """Plain parameters in place of parametrized ones.

    `remove_parametrizations` takes the property from the class, which the original module shares with its copy.
    """
    names = [name for name, _ in module.parametrizations.named_children()]  # type: ignore[union-attr]
    values = {name: getattr(module, name).detach().clone() for name in names}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


class Trial:
    """A module under trial; every call starts from the same state and the same random streams."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.children = {
            name: child for name, child in module.named_children() if type(child) is not nn.Identity
        }
        self.bare = True
        self.used: list[Callable[[Tensor], Tensor]] = []
        self.includes: list[str] = []
        self.state = ModuleState(module)

    def __call__(
        self, x: Tensor, training: bool = True, keep: bool = False, full: bool = False
    ) -> Tensor | None:
        """Its output in float64; None where it raises or gives no finite tensor of this shape.

        keep: its state moves on. full: with its activation and dropout, which are left out otherwise.
        """
        if not keep:
            self.state.restore()
        self.module.train(training)
        before = x.clone()
        try:
            with torch.no_grad(), _Bare() if not full else nullcontext():
                y = self.module(before)
        except BaseException as error:
            raise_interrupt(error)
            return None
        if not isinstance(y, Tensor) or y.shape != x.shape or not y.is_floating_point():
            return None
        return y.detach().double() if bool(y.isfinite().all()) else None

    def extras(self, x: Tensor) -> tuple[str, ...] | None:
        """What it does after normalizing, in order, by the names of submodules or functions; () for nothing.

        None where its output is not what these make of the bare normalization, in inference.
        """
        recorder = _Extras(self.module)
        bare, whole = self(x, training=False), None
        self.state.restore()
        self.module.eval()
        try:
            with torch.no_grad(), recorder.following():
                whole = self.module(x.clone())
            y = bare
            for function in recorder.functions:
                y = function(y)
        except BaseException as error:
            raise_interrupt(error)
            return None
        if y is None or not isinstance(whole, Tensor) or y.shape != whole.shape:
            return None
        close = bool(((y - whole).abs() <= 1e-6 * (1 + whole.abs().max())).all())
        return tuple(recorder.names) if close else None


class _Bare(TorchFunctionMode):
    """Leaves out activations and dropout, so that the normalization alone remains."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function_name(func) in EXTRAS:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


class _Extras(TorchFunctionMode):
    """Records the activations and dropouts of one call, by the submodule that calls them or by their own names."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.names, self.functions = module, list[str](), list[Callable[[Any], Any]]()
        self._inside = ""

    def following(self) -> ExitStack:
        stack = ExitStack()
        for name, child in self.module.named_modules():
            if name:
                stack.callback(child.register_forward_pre_hook(self._set(name)).remove)
                stack.callback(child.register_forward_hook(self._set("")).remove)
        stack.enter_context(self)
        return stack

    def _set(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._inside = name

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (name := function_name(func)) in EXTRAS:
            self.names.append(self._inside or name)
            first, rest = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
            named = dict(kwargs)
            self.functions.append(lambda y: func(y, *rest, **named))
            return func(first, *rest, **named)
        return func(*args, **kwargs)


def trial_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Small inputs that stand for one of this shape; the first that the module takes is used, the shape itself last."""
    if len(shape) < 3:
        return [(4, *shape[1:]), tuple(shape)]
    small = [3] * (len(shape) - 2)
    return list(dict.fromkeys([(4, shape[1], *small), (4, *small, shape[-1]), (4, *shape[1:]), tuple(shape)]))


def signed(shape: Sequence[int], scale: float = 1.0, seed: int = 0) -> Tensor:
    """Values between 0.5 and 1.5 times the scale, of either sign, in float64."""
    draw = torch.Generator().manual_seed(seed)
    signs = (torch.rand(*shape, generator=draw, dtype=torch.float64) < 0.5).double().mul(2).sub(1)
    return scale * signs * (0.5 + torch.rand(*shape, generator=draw, dtype=torch.float64))


def on_private_streams(function: Callable[[], Any]) -> Any:
    """Its result, without gradients; the process's random streams are left as found."""
    with left_as_found(CPU), torch.no_grad():
        seed_streams(0, CPU)
        return function()
