"""Why nothing can be done with a normalization, or with all that a module holds: with the fix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

_WRAPPERS = {
    "DataParallel": "stands in a DataParallel. Fix: give the network itself (model.module), and wrap it afterwards",
    "DistributedDataParallel": "stands in a DistributedDataParallel. Fix: give the network itself (model.module), and "
    "wrap it afterwards",
    "FullyShardedDataParallel": "is sharded by FullyShardedDataParallel. Fix: give the network before it is wrapped",
    "FSDPModule": "is sharded by fully_shard. Fix: give the network before it is sharded",
    "OptimizedModule": "is compiled by torch.compile. Fix: give the network itself (model._orig_mod), and compile it "
    "afterwards",
}
_QUANTIZED = ("torch.ao.nn.", "torch.nn.quantized.", "torch.nn.intrinsic.", "torch.nn.qat.")


def wrappers(model: nn.Module) -> dict[str, str]:
    """By the qualified name of a module: why nothing in it can be replaced."""
    found: dict[str, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if reason := _wrapper(module):
            found[name] = reason
    return found


def _wrapper(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return (
            "is a ScriptModule, whose Python is gone. Fix: give the network before torch.jit.script or trace"
        )
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.") and kind.__name__ in _WRAPPERS:
            return _WRAPPERS[kind.__name__]
    if getattr(module, "_compiled_call_impl", None) is not None:
        return "is compiled in place (module.compile()). Fix: give the network before it is compiled"
    if type(module).__module__.startswith(_QUANTIZED):
        return "is quantized, or prepared for it. Fix: give the network in floating point"
    return ""


def refusal_within(names: tuple[str, ...], wrapped: dict[str, str]) -> str:
    """Why a module of these names can't be replaced, as a module around it, or itself, is of such a kind."""
    for name in names:
        parts = name.split(".") if name else []
        for length in range(len(parts) + 1):
            place = ".".join(parts[:length])
            if place in wrapped:
                what = (
                    "it" if place == name else (f"it is in {place}, which" if place else "the whole network")
                )
                return f"{what} {wrapped[place]}"
    return ""


def refusal_of(module: nn.Module) -> str:
    """Why the module itself can't be replaced; "" where it can."""
    return "; ".join(_reasons(module))


def _reasons(module: nn.Module) -> Iterator[str]:
    if any(is_lazy(value) for value in (*module.parameters(), *module.buffers())):
        yield "it is lazy: its parameters have no shape before its first call. Fix: call the network once"
    for name, inner in module.named_modules():
        if parametrize.is_parametrized(inner):
            what = ", ".join(f"{name}.{key}".lstrip(".") for key in inner.parametrizations)
            yield (
                f"its {what} is parametrized. Fix: torch.nn.utils.parametrize.remove_parametrizations, and register "
                "it again afterwards"
            )
        for hook in vars(inner).get("_forward_pre_hooks", {}).values():
            if type(hook).__module__.startswith("torch.nn.utils."):
                yield (
                    f"torch.nn.utils.{type(hook).__module__.rpartition('.')[2]} computes its "
                    f"{getattr(hook, 'name', 'weight')} before each call. Fix: remove that first"
                )


def has_lazy(model: nn.Module) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return any(is_lazy(value) for value in (*model.parameters(), *model.buffers()))
