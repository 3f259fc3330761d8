"""What a normalization does in inference, as numbers: y = scale * x + shift for each channel, in float64."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.base.user_code import raise_interrupt
from bnbench.network.fold.blocked import Blocked, untouchable
from bnbench.network.sites.norm_site import NormSite

#: The agreement that a trial asks for, relative to the largest entry of the terms that are added.
TRIAL = 1e-12


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift. Both (C,) along the channel axis, or of the shape of gamma where it has more axes."""

    scale: Tensor
    shift: Tensor

    @property
    def is_scale(self) -> bool:
        """Whether nothing is added."""
        return not bool(self.shift.any())


def inference_affine(site: NormSite) -> Affine:
    """Of a batch norm with running or frozen statistics. Raises Blocked where inference is no such line.

    scale = gamma / sqrt(var + eps), shift = beta - mean * scale (Ioffe & Szegedy 2015, arXiv 1502.03167, section 3.1),
    in float64 from the stored numbers. A trial of the layer itself must agree, so that no class is trusted by its name.
    """
    module = site.module
    if module is None:
        raise Blocked("it is a function call")
    affine = _from_statistics(site, module) or _from_trials(site, module)
    if not bool(torch.isfinite(affine.scale).all() & torch.isfinite(affine.shift).all()):
        raise untouchable("its scale or its shift is not finite")
    if not _agrees(module, site, affine):
        raise untouchable("in inference it is no scale and shift of each channel")
    return affine


def gamma_affine(site: NormSite) -> Affine:
    """Gamma and beta of a normalization of each sample. Raises Blocked where it has none."""
    module, behaviour = site.module, site.behaviour
    gamma, beta = _of(module, behaviour.gamma), _of(module, behaviour.beta)
    if gamma is None and beta is None:
        raise Blocked("it has no gamma and no beta")
    shape = (gamma if gamma is not None else beta).shape  # type: ignore[union-attr]
    scale = torch.ones(shape, dtype=torch.float64) if gamma is None else gamma + behaviour.gamma_offset
    shift = torch.zeros(shape, dtype=torch.float64) if beta is None else beta
    if not bool(torch.isfinite(scale).all() & torch.isfinite(shift).all()):
        raise untouchable("its gamma or its beta is not finite")
    return Affine(scale, shift)


def _of(module: nn.Module | None, name: str) -> Tensor | None:
    value = attribute(module, name) if name else None
    return value.detach().double() if isinstance(value, Tensor) else None


def attribute(module: nn.Module | None, name: str) -> object:
    """By a dotted name; None where there is none."""
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _from_statistics(site: NormSite, module: nn.Module) -> Affine | None:
    mean, var = _of(module, "running_mean"), _of(module, "running_var")
    if mean is None or var is None or site.behaviour.eps is None:
        return None
    gamma, beta = _of(module, site.behaviour.gamma), _of(module, site.behaviour.beta)
    eps = getattr(module, "eps", None)
    scale = torch.rsqrt(var + (eps if isinstance(eps, float) else site.behaviour.eps))
    if gamma is not None:
        scale = scale * (gamma + site.behaviour.gamma_offset)
    shift = -mean * scale
    return Affine(scale, shift if beta is None else shift + beta)


def _from_trials(site: NormSite, module: nn.Module) -> Affine:
    """From the values at 0 and at 1; `_agrees` judges whether there is a line between them."""
    zeros = torch.zeros(_shape(site), dtype=torch.float64)
    with torch.no_grad():
        copy = _double(module)
        at_0, at_1 = _run(copy, zeros), _run(copy, torch.ones_like(zeros))
    axis = site.behaviour.channel_axis
    first = [slice(None) if i == axis % zeros.dim() else 0 for i in range(zeros.dim())]
    shift = at_0[tuple(first)]
    return Affine(at_1[tuple(first)] - shift, shift)


def _agrees(module: nn.Module, site: NormSite, affine: Affine) -> bool:
    if (
        site.behaviour.includes
    ):  # what follows it (an activation) hides the line; the whole network is compared later
        return True
    draw = torch.Generator().manual_seed(0)
    shape = _shape(site)
    x = 3 * torch.randn(shape, generator=draw, dtype=torch.float64)
    scale, shift = (
        along(value, shape, site.behaviour.channel_axis) for value in (affine.scale, affine.shift)
    )
    with torch.no_grad():
        y = _run(_double(module), x)
    if y.shape != x.shape:
        return False
    size = (x * scale).abs() + shift.abs() + 1e-300
    return bool(((y - (x * scale + shift)).abs() <= TRIAL * size.amax()).all())


def along(values: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """(C,) as a tensor of that shape which varies along one axis, and takes no memory."""
    view = [1] * len(shape)
    view[axis % len(shape)] = -1
    return values.reshape(view).expand(shape)


def _shape(site: NormSite) -> tuple[int, ...]:
    first = site.shapes[0] if site.shapes else (2, site.behaviour.num_features)
    return (min(first[0], 2), *first[1:])


def _double(module: nn.Module) -> nn.Module:
    return deepcopy(module).double().eval()


def _run(module: nn.Module, x: Tensor) -> Tensor:
    try:
        y = module(x)
    except BaseException as error:  # whatever a user's layer raises
        raise_interrupt(error)
        raise untouchable(f"it can't be tried by itself: {type(error).__name__}") from error
    if not isinstance(y, Tensor):
        raise untouchable("it gives more than one tensor")
    return y
