"""What a conversion is to do, and what became of each normalization."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from bnbench.network.convert.biases import BiasChange, Biases
from bnbench.network.convert.carrying import Carried, Roles
from bnbench.network.sites.norm_site import NormSite

#: Which normalizations change: batch and sync norms, every one, or one kind.
Source = Literal["batch", "all", "sync", "frozen", "instance", "group", "layer", "rms"]
SOURCES: tuple[Source, ...] = ("batch", "all", "sync", "frozen", "instance", "group", "layer", "rms")


@dataclass(frozen=True)
class Choices:
    """source: which normalizations change. biases: see `biases`. seed: of the biases that come back."""

    source: Source = "batch"
    biases: Biases = "fair"
    seed: int = 0


@dataclass(frozen=True)
class Replaced:
    """One site and what became of it. new: the layer that stands there now, None where the old one still does.

    reason: why it was left or refused. kept: options of the new layer that were the old one's. old_roles, roles: of the
    old and of the new layer's tensors. then: modules of a fused layer that still follow. activation: the one whose
    place the new layer takes, and how many parameters that had, where it was a layer of its own.
    """

    site: NormSite
    action: Literal["converted", "left", "refused"]
    reason: str = ""
    old: nn.Module | None = None
    new: nn.Module | None = None
    carried: Carried = field(default_factory=Carried)
    biases: tuple[BiasChange, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict)
    old_roles: Roles = field(default_factory=Roles)
    roles: Roles = field(default_factory=Roles)
    then: tuple[str, ...] = ()
    activation: str = ""
    activation_parameters: int = 0

    def new_names(self) -> dict[str, str]:
        """The names of the tensors that the new layer has from the old one, by the old names, under every name."""
        pairs = [
            (self.old_roles.gamma, self.roles.gamma, self.carried.gamma),
            (self.old_roles.beta, self.roles.beta, self.carried.beta),
        ]
        if self.carried.statistics.startswith("carried"):
            own = self.roles.statistics
            pairs += [
                (old, own[key], "carried") for key, old in self.old_roles.statistics.items() if key in own
            ]
        pairs += [
            (name, name, "carried")
            for then in self.then
            for name, _ in (self.old.get_submodule(then) if self.old else nn.Module()).named_parameters(then)
        ]
        return {
            inside(prefix, old): inside(prefix, new)
            for prefix in self.site.names
            for old, new, word in pairs
            if old and new and word in ("carried", "spread")
        }


def inside(place: str, name: str) -> str:
    """The name of a tensor of the module at that place, "" for the root."""
    return f"{place}.{name}" if place else name


@dataclass(frozen=True)
class Replacement:
    """The network, which is another module only where its root is a normalization, and each of its sites."""

    model: nn.Module
    sites: tuple[Replaced, ...]


def not_chosen(site: NormSite, source: Source) -> str:
    """Why a site is not among those that change; "" where it is."""
    kind = site.behaviour.kind
    if source == "all":
        return (
            "it is a normalization of no kind that bnbench knows"
            if kind == "other" and not site.refused
            else ""
        )
    chosen = ("batch", "sync") if source == "batch" else (source,)
    return (
        ""
        if kind in chosen
        else f"{kind} norm, and {' and '.join(chosen)} norms are converted (--from {source})"
    )
