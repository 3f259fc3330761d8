"""What to fold where: found in the record of a network, before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from bnbench.base.fold_record import WHOLE
from bnbench.network.fold.affine import Affine, along, gamma_affine, inference_affine
from bnbench.network.fold.blocked import Blocked, untouchable
from bnbench.network.fold.fields import Field
from bnbench.network.fold.flow import Flow, check_hooks
from bnbench.network.fold.walks import After, Before
from bnbench.network.fold.weights import Weights, fold_after, fold_before
from bnbench.network.sites.norm_site import NormSite, NormSites

Side = Literal["before", "after"]
NOT_USED = "a forward pass in inference does not use it"


@dataclass(frozen=True)
class Fold:
    """One norm that goes into layers. side: where those stand. whole: the norm goes; else its gamma and beta alone."""

    site: NormSite
    side: Side
    layers: tuple[str, ...]
    whole: bool


@dataclass(frozen=True)
class Left:
    """One norm that stays. action: left, or refused where only its use or its state forbids it. blocked: by side."""

    site: NormSite
    action: Literal["left", "refused"]
    blocked: Mapping[Side, Blocked] = field(default_factory=dict)
    reason: str = ""


@dataclass
class Plan:
    """Every norm once, in the order of the record. weights: what the changed layers hold in the end, in float64."""

    outcomes: list[Fold | Left] = field(default_factory=list)
    weights: dict[str, Weights] = field(default_factory=dict)

    @property
    def folds(self) -> list[Fold]:
        """Those that are folded."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Fold)]


class Planner:
    """Goes through the norms one by one. model: in inference mode; it is read and never changed."""

    def __init__(self, model: nn.Module, sites: NormSites, skip: Mapping[str, str] | None = None) -> None:
        self.model, self.sites, self.skip = model, sites, dict(skip or {})
        self.flow = Flow(model, sites.nodes)
        self.plan = Plan()
        self.idle: dict[int, tuple[str, ...]] = {}

    def run(self) -> Plan:
        """The plan for all of them. skip: names of norms that a trial excluded, with the reason."""
        outcomes = [self._outcome(site) for site in self.sites.sites]
        folded = 0
        while len(self.idle) > folded:
            folded = len(self.idle)
            for index, outcome in enumerate(outcomes):
                if self._is_free(outcome):
                    outcomes[index] = self._outcome(outcome.site)
        self.plan.outcomes.extend(outcomes)
        return self.plan

    def _is_free(self, outcome: Fold | Left) -> bool:
        """Whether a norm stood in its way that was folded since, with nothing left in its place."""
        if isinstance(outcome, Fold):
            return False
        modules = (self.flow.modules.get(blocked.place) for blocked in outcome.blocked.values())
        return any(self.idle.get(id(module)) == () for module in modules)

    def _outcome(self, site: NormSite) -> Fold | Left:
        if site.name in self.skip:
            return Left(site, "refused", {}, self.skip[site.name])
        whole = site.behaviour.kind in WHOLE or site.behaviour.running
        try:
            module, affine = self._affine(site, whole)
        except Blocked as blocked:
            return Left(site, "left" if blocked.touchable else "refused", {}, str(blocked))
        blocked_by: dict[Side, Blocked] = {}
        sides: tuple[Side, ...] = ("before", "after") if whole else ("after",)
        for side in sides:
            try:
                return self._fold(site, module, affine, side, whole)
            except Blocked as blocked:
                blocked_by[side] = blocked
        refused = any(not blocked.touchable for blocked in blocked_by.values())
        return Left(site, "refused" if refused else "left", blocked_by, _sentence(blocked_by))

    def _affine(self, site: NormSite, whole: bool) -> tuple[nn.Module, Affine]:
        """The norm's module and what it does. Raises Blocked for a norm that can't be folded wherever it stands."""
        if site.refused or site.module is None:
            raise untouchable(site.refused or "it is a function call")
        if site.name == "":
            raise Blocked("it is the whole network: there is no layer to fold it into")
        if whole and site.module.training and site.behaviour.kind != "frozen":
            raise untouchable("it is in training mode, though the network is in inference mode")
        if whole and not site.behaviour.running and not site.behaviour.axes:
            raise untouchable("it can't be tried in training mode, which would show what it computes")
        if whole and not site.behaviour.running and site.behaviour.kind != "frozen":
            raise untouchable("in inference it uses the statistics of its own batch: it keeps none")
        if not whole and site.behaviour.kind == "other":
            raise Blocked("it is no scale and shift of each channel, and has no gamma that could leave it")
        check_hooks(site.module, site.name)
        if not self.flow.calls(site.module):
            raise Blocked(NOT_USED)
        return site.module, inference_affine(site) if whole else gamma_affine(site)

    def _fold(self, site: NormSite, module: nn.Module, affine: Affine, side: Side, whole: bool) -> Fold:
        walk = (Before if side == "before" else After)(self.flow, module, self.idle)
        if side == "after" and site.behaviour.includes:
            raise Blocked(f"its own {site.behaviour.includes[-1]} stands between", site.name)
        for node in self.flow.calls(module):
            shape = node.shape or self.flow.nodes[node.inputs[0]].shape
            at = _field(site, affine, shape)
            if isinstance(walk, Before):
                walk.back(node.inputs[0], node, at)
            else:
                walk.on(node.index, at)
        layers = walk.layers()
        change = fold_before if side == "before" else fold_after
        weights = {}
        for name, layer, part in layers:
            new = change(layer, self.plan.weights.get(name) or Weights.of(layer), part)
            _check_range(name, layer, new)
            weights[name] = new
        self.plan.weights.update(weights)
        if whole:
            self.idle[id(module)] = site.behaviour.includes
        return Fold(site, side, tuple(weights), whole)


def _field(site: NormSite, affine: Affine, shape: tuple[int, ...]) -> Field:
    """The norm's line at every place of its output. Gamma of more than one axis lies over the last ones."""
    if affine.scale.dim() > 1:
        return Field(affine.scale.expand(shape), affine.shift.expand(shape))
    axis = site.behaviour.channel_axis
    return Field(along(affine.scale, shape, axis), along(affine.shift, shape, axis))


def _check_range(name: str, layer: nn.Module, weights: Weights) -> None:
    """Raises Blocked for numbers that the layer's dtype can't hold."""
    dtype = next(layer.parameters()).dtype
    for values in (weights.weight, weights.bias, weights.zero_point):
        if values is not None and not bool(torch.isfinite(values.to(dtype)).all()):
            kind = str(dtype).removeprefix("torch.")
            raise untouchable(f"the folded weights overflow {kind} (largest {values.abs().max():.3g})", name)


def _sentence(blocked: Mapping[Side, Blocked]) -> str:
    words: dict[str, str] = {"before": "before it", "after": "after it"}
    return "; ".join(f"{words[side]}: {reason}" for side, reason in blocked.items())


def details_of(outcome: Fold | Left) -> dict[str, Any]:
    """What a site's record adds: JSON values alone."""
    if isinstance(outcome, Fold):
        found = outcome.site.behaviour
        parts = [name for name, has in (("gamma", found.gamma), ("beta", found.beta)) if has]
        what = "norm" if outcome.whole else " and ".join(parts)
        return {"side": outcome.side, "into": list(outcome.layers), "what": what}
    return {f"blocked_{side}": {"reason": b.reason, "place": b.place} for side, b in outcome.blocked.items()}
