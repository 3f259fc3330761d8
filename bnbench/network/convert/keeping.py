"""The settings of an old layer that the new one keeps: eps, momentum, and whether it learns and tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bnbench.base.user_code import raise_interrupt
from bnbench.network.sites.norm_site import NormSite
from bnbench.norms.norm_layer import NormLayer

#: Of a layer whose input was not seen.
_SAMPLES, _SIZE = 4, 2
_RANKS: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.BatchNorm1d, 2),
    (nn.BatchNorm2d, 4),
    (nn.BatchNorm3d, 5),
    (nn.InstanceNorm1d, 3),
    (nn.InstanceNorm2d, 4),
    (nn.InstanceNorm3d, 5),
)
#: What says that a layer has these, and not only a number of the same name.
_BATCH = ("batch", "sync")


def kept_options(norm: NormLayer, site: NormSite, old: nn.Module) -> dict[str, Any]:
    """Options of the new layer that are the old one's, where the user chose none and the new one can have them."""
    names = set(norm.entry.option_names())
    wanted = {name: value for name, value in settings_of(norm, site, old).items() if name in names}
    kept: dict[str, Any] = {}
    for name, value in wanted.items():
        if name not in norm.options and _is_allowed(norm, {**norm.options, name: value}):
            kept[name] = value
    return kept


def settings_of(norm: NormLayer, site: NormSite, old: nn.Module) -> dict[str, Any]:
    """What the old layer has, in the words of the normalizers' options."""
    found, settings = site.behaviour, dict[str, Any]()
    if (eps := eps_of(site, old)) is not None:
        settings["eps"] = eps
    if found.running:
        momentum = momentum_of(site, old)
        if momentum is None or not keeps_old(norm):
            settings |= {"momentum": momentum} if knows_momentum(site, old) else {}
        else:
            settings["momentum"] = 1 - momentum
    elif found.kind in _BATCH:
        settings["track_running_stats"] = False
    if not found.gamma and not found.beta:
        settings["affine"] = False
    rank = len(site.shapes[0]) if site.shapes else 0
    if (
        found.kind in ("layer", "rms")
        and rank > 2
        and len(found.axes) == 1
        and found.channel_axis % rank == 1
    ):
        settings["axes"] = "channels"
    if found.kind == "group" and found.groups:
        settings["groups"] = found.groups
    return settings


def keeps_old(norm: NormLayer) -> bool:
    """Whether its momentum is the weight of the old value, as in Keras."""
    return bool(getattr(norm.entry.facts.steps, "keeps_old", False))


def eps_of(site: NormSite, old: nn.Module) -> float | None:
    """As its attribute says, else as trials found it."""
    for name in ("eps", "epsilon", "variance_epsilon"):
        value = getattr(old, name, None)
        if isinstance(value, float) and not isinstance(value, bool):
            return value
    return site.behaviour.eps


def momentum_of(site: NormSite, old: nn.Module) -> float | None:
    """The weight of the new value; None: the average over all batches."""
    return old.momentum if isinstance(old, _BatchNorm) else site.behaviour.momentum


def knows_momentum(site: NormSite, old: nn.Module) -> bool:
    """Whether None means an average, and not that nothing was found."""
    return isinstance(old, _BatchNorm) or site.behaviour.momentum is not None


def assumed_shape(site: NormSite, old: nn.Module) -> tuple[int, ...]:
    """A shape that its class takes, where no input reached it: the channels are where it has them."""
    channels, axis = site.behaviour.num_features, site.behaviour.channel_axis
    rank = next((rank for kind, rank in _RANKS if isinstance(old, kind)), 0)
    if not rank and isinstance(old, _BatchNorm | _InstanceNorm | nn.GroupNorm):
        rank = 4
    rank = rank or (3 if axis < 0 else 4 if axis < 2 else axis + 1)
    shape = [_SAMPLES, *[_SIZE] * (rank - 1)]
    shape[axis if axis < rank else 1] = channels
    return tuple(shape)


def _is_allowed(norm: NormLayer, options: Mapping[str, Any]) -> bool:
    """Whether the normalizer's options have this type and range."""
    try:
        norm.entry.typed(options)
    except BaseException as error:  # whatever a type of the user's raises
        raise_interrupt(error)
        return False
    return True
