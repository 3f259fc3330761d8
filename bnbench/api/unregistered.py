"""The error for a plugin that registers nothing: its definitions, and the lines that register them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from bnbench.base.errors import PluginError
from bnbench.base.kinds import KIND_OF, Kind

#: What a layer calls the number of its channels; what begins otherwise is taken for a network.
_CHANNELS = {"num_features", "num_channels", "channels", "n_channels", "features", "dim", "num_feats"}


def registers_nothing(path: Path, module: ModuleType) -> PluginError:
    """The error for a plugin without a name for a study to choose."""
    defined = list(_defined(module))
    problem = f"--plugin {path}: it registers nothing"
    if not defined:
        return PluginError(
            f"{problem}, and it defines no layer, network, optimizer or loss.",
            "A plugin gives names to factories, for a study to choose.",
            'from bnbench.norms import norms, then @norms.register("mine") above def mine(num_features, dim): ...',
        )
    kinds = [f"{name}({base})" for name, base, _ in defined]
    more = f" and {len(kinds) - 5} more" if len(kinds) > 5 else ""
    name, _, kind = defined[0]
    fix = f"add to {path.name}:\n{_lines(name, kind)}"
    if kind.key == "norm":
        fix = f"variants.{_short(name)}.norm={path}:{name} in place of --plugin, or {fix}"
    why = "Only what is registered has a name that a study can choose."
    return PluginError(f"{problem}; it defines {', '.join(kinds[:5])}{more}.", why, fix)


def _defined(module: ModuleType) -> Iterator[tuple[str, str, Kind]]:
    """Names of its own classes that a study could use, with the class above each, and the kind."""
    import torch

    for name, value in vars(module).items():
        if not inspect.isclass(value) or value.__module__ != module.__name__:
            continue
        base = value.__mro__[1].__name__
        if issubclass(value, torch.nn.Module):
            module_of_torch = value.__mro__[1].__module__.startswith("torch.nn")
            yield name, f"{'nn.' * module_of_torch}{base}", KIND_OF[_kind_of_layer(value)]
        elif issubclass(value, torch.optim.Optimizer):
            yield name, base, KIND_OF["optimizer"]


def _kind_of_layer(layer: type) -> str:
    try:
        parameters = list(inspect.signature(layer).parameters)
    except (TypeError, ValueError):
        return "norm"
    if "loss" in layer.__name__.lower():
        return "loss"
    return "norm" if parameters and parameters[0] in _CHANNELS else "model"


def _lines(name: str, kind: Kind) -> str:
    """What to paste: an import, a decorator, a factory."""
    call = {
        "norm": (f"{_short(name)}(num_features, dim)", f"{name}(num_features)"),
        "model": (
            f"{_short(name)}(input_shape, num_classes, norm)",
            f"{name}(...)  # its norms: norm(channels, 2)",
        ),
        "optimizer": (f"{_short(name)}(model, *, lr: float)", f"{name}(model.parameters(), lr=lr)"),
        "loss": (f"{_short(name)}()", f"{name}()"),
    }[kind.key]
    return (
        f"from {kind.package} import {kind.attribute}\n"
        f'@{kind.attribute}.register("{_short(name)}")\n'
        f"def {call[0]}:\n"
        f"    return {call[1]}"
    )


def _short(name: str) -> str:
    """TinyUNet: tiny_unet."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
