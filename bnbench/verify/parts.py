"""Where a layer keeps gamma, beta and its running statistics: found by their common names, then by shape."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Role -> the names that people give it, the surest first.
_NAMES = {
    "gamma": ("weight", "gamma", "scale", "g", "w"),
    "beta": ("bias", "beta", "shift", "offset", "b"),
    "running_mean": ("running_mean", "moving_mean", "run_mean", "ema_mean", "running_avg", "mean", "mu"),
    "running_var": (
        "running_var",
        "moving_var",
        "moving_variance",
        "running_variance",
        "run_var",
        "ema_var",
        "var",
        "variance",
        "sigma2",
    ),
    "counter": ("num_batches_tracked",),
}


@dataclass(frozen=True)
class Part:
    """One tensor of a layer. path: "running_mean", "bn.weight"; kind: parameter, buffer or attribute."""

    path: str
    kind: str

    def read(self, layer: nn.Module) -> Any:
        """What stands there now."""
        return operator.attrgetter(self.path)(layer)

    def vector(self, layer: nn.Module) -> Tensor:
        """What stands there now, flat, in float64, cut from any graph."""
        return torch.as_tensor(self.read(layer)).detach().double().flatten().clone()

    def write(self, layer: nn.Module, values: Tensor) -> None:
        """Put these numbers there, in place."""
        tensor = self.read(layer)
        with torch.no_grad():
            tensor.copy_(values.reshape(tensor.shape))


Parts = dict[str, Part]


def find_parts(layer: nn.Module, num_features: int) -> Parts:
    """Role -> part. Only tensors of num_features numbers count (the counter: of one)."""
    tensors = list(_tensors(layer))
    wide = {part: tensor for part, tensor in tensors if tensor.numel() == num_features}
    found: Parts = {}
    for role, names in _NAMES.items():
        pool = (
            wide if role != "counter" else {part: tensor for part, tensor in tensors if tensor.numel() == 1}
        )
        named = {_last(part): part for part in reversed(pool) if _suits(part, role)}
        name = next((name for name in names if name in named), None)
        if name is not None:
            found[role] = named[name]
    _find_by_shape(wide, found)
    return found


def _suits(part: Part, role: str) -> bool:
    """A parameter is no statistic."""
    return role in ("gamma", "beta") or part.kind != "parameter"


def _find_by_shape(wide: dict[Part, Tensor], found: Parts) -> None:
    """What no name gave away: of the parameters or buffers left, the ones that start at 1 or at 0."""
    for role, kind, start in (
        ("gamma", "parameter", 1),
        ("beta", "parameter", 0),
        ("running_mean", "buffer", 0),
        ("running_var", "buffer", 1),
    ):
        left = [part for part in wide if part.kind == kind and part not in found.values()]
        match = next((part for part in left if bool((wide[part] == start).all())), None)
        if role not in found and match is not None:
            found[role] = match


def _tensors(layer: nn.Module) -> Iterator[tuple[Part, Tensor]]:
    for prefix, module in layer.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, parameter in module.named_parameters(recurse=False):
            yield Part(dot + name, "parameter"), parameter
        for name, buffer in module.named_buffers(recurse=False):
            yield Part(dot + name, "buffer"), buffer
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield Part(dot + name, "attribute"), value


def _last(part: Part) -> str:
    return part.path.rpartition(".")[2].strip("_").lower()
