"""Roles of a layer's tensors (gamma, beta, running statistics): by name, initial value and effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bnbench.verification.tensors import Part, tensors

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
LEARNT = ("gamma", "beta")

Parts = dict[str, Part]
Maker = Callable[[], nn.Module]


def find_parts(layer: nn.Module, num_features: int) -> Parts:
    """Role -> part. Vectors of num_features numbers; gamma and beta may be one number for all channels."""
    parts: Parts = {}
    held = dict(tensors(layer))
    wide = {part: tensor for part, tensor in held.items() if tensor.numel() == num_features}
    single = {part: tensor for part, tensor in held.items() if tensor.numel() == 1}
    learnt = {part: tensor for part, tensor in wide.items() if is_learnt(part, tensor)}
    enough = len(learnt) >= len(LEARNT)  # then nothing else is gamma or beta, whatever its name
    for role, names in _NAMES.items():
        pools = (learnt if enough else wide, single) if role in LEARNT else (wide,)
        for pool in (single,) if role == "counter" else pools:
            named = {part.name: part for part in reversed(pool) if _suits(part, role, pool is single)}
            name = next((name for name in names if name in named), None)
            if name is not None and role not in parts and named[name] not in parts.values():
                parts[role] = named[name]
    _find_by_start(wide, parts)
    _find_by_start({part: held[part] for part in single if is_learnt(part, held[part])}, parts)
    return parts


def _suits(part: Part, role: str, is_single: bool) -> bool:
    """A parameter is not a statistic; one number is gamma or beta only where it is learnt."""
    if role in LEARNT:
        return part.kind == "parameter" or not is_single
    return part.kind != "parameter"


def _find_by_start(pool: Mapping[Part, Tensor], parts: Parts) -> None:
    """Assign the remaining roles by initial value: among the remaining tensors, those that start at 1 or 0."""
    for role, start in (("gamma", 1), ("beta", 0), ("running_mean", 0), ("running_var", 1)):
        left = [
            part
            for part, tensor in pool.items()
            if is_learnt(part, tensor) == (role in LEARNT) and part not in parts.values()
        ]
        match = next((part for part in left if bool((pool[part] == start).all())), None)
        if role not in parts and match is not None:
            parts[role] = match


def is_learnt(part: Part, tensor: Tensor) -> bool:
    """Whether it is meant to be learnt, registered or not."""
    return part.kind == "parameter" or tensor.requires_grad


def add_by_effect(maker: Maker, parts: Parts, num_features: int, x: Tensor) -> None:
    """Parameters that neither name nor start gave away: one that shifts a channel is beta, another gamma."""
    for part, tensor in tensors(maker()):
        learns = is_learnt(part, tensor) and tensor.is_floating_point() and part not in parts.values()
        if not learns or tensor.numel() not in (1, num_features) or {"gamma", "beta"} <= set(parts):
            continue
        change = _change(maker, part, x)
        rest = change - change.mean((0, *range(2, x.dim())), keepdim=True)
        if float(change.abs().max()) < 1e-6:
            continue
        role = "beta" if float(rest.abs().max()) < 1e-4 * float(change.abs().max()) else "gamma"
        parts.setdefault(role, part)


def unknown_parameters(layer: nn.Module, parts: Parts) -> list[Part]:
    """The parameters that have no role; their values are changed before every check."""
    return [part for part, tensor in tensors(layer) if part not in parts.values() and is_learnt(part, tensor)]


def has_effect(maker: Maker, part: Part, x: Tensor) -> bool:
    """Whether the output, in training or in eval, changes with the part."""
    return any(float(_change(maker, part, x, mode).abs().max()) > 1e-6 for mode in (True, False))


def _change(maker: Maker, part: Part, x: Tensor, training: bool = True) -> Tensor:
    before = maker().train(training)
    after = maker().train(training)
    value = part.vector(after)
    part.write(after, value + 0.5)
    with torch.no_grad():
        change: Tensor = after(x.clone()) - before(x.clone())
    return change.double().nan_to_num(1e9)
