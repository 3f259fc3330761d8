"""Findings whose fix can be trained: what becomes of a freshly built network, or of the study, when it is mended."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from bnbench.base.network_records import Finding
from bnbench.network.doctor.cure_layers import Before, ChannelNorm, LogOfOutput
from bnbench.network.doctor.dropout_shift import noise_modules
from bnbench.network.sites.norm_site import NormSite, NormSites

#: What torch's batch norms have.
MOMENTUM, EPS = 0.1, 1e-5
#: Values of a statistic that the groups of a mended group norm have, and groups at most.
VALUES, GROUPS = 16, 32

#: Why a rule's finding has no study.
NO_STUDY = {
    "D01": "its fix changes the statistics of a trained network, not its training: evaluate: [running, precise] in a "
    "study shows what they cost",
    "D02": "its fix changes the statistics of a trained network, not its training",
    "D08": "its channels died in another training",
    "D09": "gammas are a result of training, and have no fix of their own",
    "D14": "the study's own optimizer trains every parameter",
    "D22": "the study trains in its own precision, with statistics in float32",
    "D23": "its fix is another file",
    "D24": "a study trains in one process",
    "D25": "a normalizer that takes the mask needs it from the network's forward, which would have to change",
}


@dataclass(frozen=True)
class Cure:
    """What the variant `fixed` has. text: in words. mend: changes a network in place, and gives the mended one.

    settings: of the study for `fixed`; found: for `as_found`.
    """

    text: str
    mend: Callable[[nn.Module], nn.Module] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)


def cure_of(finding: Finding, sites: NormSites, model: nn.Module) -> Cure | str:
    """The fix of a finding as it can be trained, or why it can't be. model: the network in which it was found."""
    if finding.rule in NO_STUDY:
        return NO_STUDY[finding.rule]
    make = _CURES.get(finding.rule)
    if make is None:
        return "no study is known for this rule"
    site = next((site for site in sites.sites if finding.place in site.names), None)
    return make(_Case(finding, site, model))


@dataclass(frozen=True)
class _Case:
    """The finding, the site at its place, and the network."""

    finding: Finding
    site: NormSite | None
    model: nn.Module

    @property
    def place(self) -> str:
        return self.finding.place

    @property
    def channels(self) -> int:
        return self.site.behaviour.num_features if self.site is not None else 0


def _at(place: str, change: Callable[[nn.Module], None]) -> Callable[[nn.Module], nn.Module]:
    """A change of the module at a place."""

    def mend(model: nn.Module) -> nn.Module:
        change(model.get_submodule(place))
        return model

    return mend


def _replaced(
    names: tuple[str, ...], make: Callable[[nn.Module], nn.Module]
) -> Callable[[nn.Module], nn.Module]:
    """Another module under these names."""

    def mend(model: nn.Module) -> nn.Module:
        new = make(model.get_submodule(names[0]))
        for name in names:
            if not name:
                return new
            owner, _, key = name.rpartition(".")
            setattr(model.get_submodule(owner), key, new)
        return model

    return mend


def _attribute(name: str, usual: float) -> Callable[[_Case], Cure | str]:
    """The number that the finding's fix names, else the usual one."""

    def make(case: _Case) -> Cure | str:
        named = re.search(rf"\.{name} = ([\d.e-]*\d)", case.finding.fix)
        value = float(named[1]) if named else usual
        inner = case.model.get_submodule(case.place).modules()
        if all(getattr(module, name, value) == value for module in inner):
            return f"{name} is {value:g} already"

        def change(module: nn.Module) -> None:
            for inner in module.modules():
                if hasattr(inner, name):
                    setattr(inner, name, value)

        return Cure(f"{name} {value:g} in {case.place}", _at(case.place, change))

    return make


def _frozen(case: _Case) -> Cure | str:
    def learn(module: nn.Module) -> None:
        module.requires_grad_(True)

    return Cure(f"gamma and beta of {case.place} learn", _at(case.place, learn))


def _own_train(case: _Case) -> Cure | str:
    """The `train` of torch in place of the network's own."""

    def mend(model: nn.Module) -> nn.Module:
        for module in model.modules():
            if type(module).train is not nn.Module.train:
                module.train = nn.Module.train.__get__(module)  # type: ignore[method-assign]
        return model.train()

    return Cure("every layer trains in train()", mend)


def _shared(case: _Case) -> Cure | str:
    names = case.site.names if case.site is not None else ()
    if len(names) < 2:
        return "it is called several times under one name: a layer for each call needs another forward"

    def mend(model: nn.Module) -> nn.Module:
        for name in names[1:]:
            owner, _, key = name.rpartition(".")
            setattr(model.get_submodule(owner), key, copy.deepcopy(model.get_submodule(names[0])))
        return model

    return Cure(f"a layer of its own at each of {len(names)} places", mend)


def _bias(case: _Case) -> Cure | str:
    name = case.place
    if case.site is not None:
        name = case.site.producer.name if case.site.producer is not None else ""
    try:
        module = case.model.get_submodule(name)
    except AttributeError:
        return f"no layer is known whose bias is meant at {case.place}"
    if not isinstance(getattr(module, "bias", None), nn.Parameter):
        return f"{name} has no bias that could be taken out alone"
    return Cure(f"{name} without its bias", _at(name, lambda module: module.register_parameter("bias", None)))


def _second_norm(case: _Case) -> Cure | str:
    names = case.site.names if case.site is not None else (case.place,)
    return Cure(f"{case.place} taken out", _replaced(names, lambda module: nn.Identity()))


def _softmax(case: _Case) -> Cure | str:
    if case.finding.severity == "note":
        return "a log-softmax of log-probabilities is the same: there is no difference to train"
    if "log-probabilities, and the network gives none" in case.finding.message:
        return "another loss or another output is needed, and only you know which"
    sigmoid = "sigmoid" in case.finding.message
    text = f"logits at the output ({'the logit of its sigmoid' if sigmoid else 'the log of its softmax'})"
    return Cure(text, lambda model: LogOfOutput(model, sigmoid))


def _dropout_after(case: _Case) -> Cure | str:
    """The dropout that the finding names, in front of the last linear layer."""
    noise = noise_modules(case.model)
    words = case.finding.fix.split()
    name = next((word for word in words if word in noise), "")
    rate = getattr(noise.get(name), "p", None)
    linear = [key for key, module in case.model.named_modules() if isinstance(module, nn.Linear)]
    if not name or not isinstance(rate, float):
        return "its dropout is a function call in the forward, which no module stands for"
    if not linear:
        return "the network has no linear layer at its end, in front of which the dropout could go"

    def mend(model: nn.Module) -> nn.Module:
        model = _replaced((name,), lambda module: nn.Identity())(model)
        return _replaced((linear[-1],), lambda module: Before(module, rate))(model)

    return Cure(f"the dropout of {rate:g} before {linear[-1]} in place of {name}", mend)


def _group(case: _Case) -> Cure | str:
    """Group norm with enough values a group."""
    site = case.site
    if site is None or site.module is None or not case.channels or not site.shapes:
        return "the shape of its input is not known"
    channels, shape = case.channels, site.shapes[0]
    if len(shape) < 2 or shape[1] != channels:
        return "its channels are not the second axis of its input"
    positions = math.prod(shape[2:])
    fitting = [g for g in range(1, channels + 1) if channels % g == 0 and channels // g * positions >= VALUES]
    groups = max((g for g in fitting if g <= GROUPS), default=1)
    if site.behaviour.kind == "group" and groups == site.behaviour.groups:
        groups = max((g for g in fitting if g < groups), default=1)

    def make(module: nn.Module) -> nn.Module:
        return nn.GroupNorm(groups, channels, eps=site.behaviour.eps or EPS)

    return Cure(f"nn.GroupNorm({groups}, {channels}) in place of {case.place}", _replaced(site.names, make))


def _over_channels(case: _Case) -> Cure | str:
    site = case.site
    if site is None or not site.shapes or len(site.shapes[0]) < 2:
        return "the shape of its input is not known"
    channels, eps = site.shapes[0][1], site.behaviour.eps or EPS
    return Cure(
        f"layer norm over the {channels} channels in place of {case.place}",
        _replaced(site.names, lambda module: ChannelNorm(channels, eps)),
    )


def _spared(case: _Case) -> Cure | str:
    return Cure(
        "gamma, beta and biases without weight decay",
        settings={"optimizer.decay_norm_and_bias": False},
        found={"optimizer.decay_norm_and_bias": True},
    )


def _last_dropped(case: _Case) -> Cure | str:
    return Cure("only full batches", settings={"last_batch": "drop"}, found={"last_batch": "keep"})


def _half_moved(case: _Case) -> Cure | str:
    momentum, updates = case.site.behaviour.momentum if case.site is not None else None, case.finding.evidence
    if not momentum or updates < 2:
        return "its momentum is not known"
    return _attribute("momentum", 1 - (1 - momentum) ** (1 / updates))(case)


_CURES: dict[str, Callable[[_Case], Cure | str]] = {
    "D03": _frozen,
    "D04": _own_train,
    "D05": _shared,
    "D06": _bias,
    "D07": _second_norm,
    "D10": _attribute("momentum", MOMENTUM),
    "D11": _attribute("momentum", MOMENTUM),
    "D12": _attribute("eps", EPS),
    "D13": _spared,
    "D15": _softmax,
    "D16": _dropout_after,
    "D17": _group,
    "D18": _last_dropped,
    "D19": _group,
    "D20": _over_channels,
    "D21": _over_channels,
    "D26": _half_moved,
}
