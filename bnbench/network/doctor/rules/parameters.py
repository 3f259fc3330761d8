"""Gamma and beta: their values, their weight decay, and whether an optimizer has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer

from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.doctor.trained import gamma_of
from bnbench.network.flow.neighbours import is_transparent
from bnbench.network.sites.norm_site import Node, NormSite

#: Beside the largest gamma of the layer.
_NONE = 1e-4
#: The share of negative gammas that is worth a note.
_NEGATIVE = 0.25
#: Names of additions, after which a branch with gamma 0 is the identity.
_SUMS = ("add", "iadd", "sum", "radd", "sub", "isub", "cat", "stack")
_SCALES = re.compile("drop|depth|view|reshape|^_*i?mul|^_*i?true_?div|scale|identity", re.IGNORECASE)


@rules.register(
    "D09",
    title="gamma of almost 0, or negative",
    severity="note",
    cost="A channel with gamma 0 is the constant beta: nothing of the input passes, and no gradient goes back.",
)
def small_gamma(patient: Patient) -> Iterator[Symptom]:
    """Gammas are 0 beside the others of their layer, or many are negative.

    Weight decay and L1 penalties push gammas to 0 (network slimming prunes such channels). A negative gamma mirrors the
    channel: before a ReLU another half passes. That is right as it is, but breaks tools that assume positive ones.

    Evidence: the share of such channels, in percent.

    Meant: a layer whose gammas are all 0 and whose output is added to a shortcut is the zero-initialized residual
    branch (Goyal et al. 2017), as long as nothing was trained. All 0 elsewhere, or after training, is a warning.

    Fix: prune the channels, or take gamma out of the weight decay; nn.init.ones_ where all are 0.

    Threads: ultralytics/yolov3#469
    """
    for site in patient.norms:
        gamma = gamma_of(site)
        if gamma is None or not gamma.numel():
            continue
        largest = float(gamma.abs().max())
        name = f"model.get_submodule({site.name!r}).{site.behaviour.gamma}"
        if largest == 0:
            yield from _all_zero(patient, site, name)
            continue
        zero = float((gamma.abs() <= _NONE * largest).double().mean())
        negative = float((gamma < 0).double().mean())
        if zero > 0:
            message = "Some gammas are 0 beside the others: their channels are the constant beta."
            fix = f"prune the channels where {name}.abs() <= {_NONE * largest:.1g}, or leave gamma out of the decay"
            yield Symptom(site.name, 100 * zero, "% of the gammas are almost 0", message, fix)
        if negative > _NEGATIVE and patient.was_trained:
            message = "Many gammas are negative: those channels are mirrored."
            fix = "nothing, unless a tool after it assumes that they are positive"
            yield Symptom(site.name, 100 * negative, "% of the gammas are negative", message, fix)


def _all_zero(patient: Patient, site: NormSite, name: str) -> Iterator[Symptom]:
    """A branch that gives nothing: meant at the start where it is added to something."""
    known = bool(site.consumers)
    added = any(neighbour.name.rsplit(".", 1)[-1].strip("_") in _SUMS for neighbour in site.consumers)
    meant = added or not known or _ends_branch(patient, site)
    if meant and not patient.was_trained:
        return
    message = (
        "All gammas are 0 in a network that was trained: the branch gives the constant beta."
        if meant
        else "All gammas are 0 and nothing is added to the output: the input is lost."
    )
    yield Symptom(
        site.name, 100, "% of the gammas are 0", message, f"torch.nn.init.ones_({name})", severity="warning"
    )


def _ends_branch(patient: Patient, site: NormSite) -> bool:
    """Whether an addition follows, with a dropout or the like between."""
    readers: dict[int, list[int]] = {node.index: [] for node in patient.sites.nodes}
    for node in patient.sites.nodes:
        for index in node.inputs:
            readers.setdefault(index, []).append(node.index)
    nodes = {node.index: node for node in patient.sites.nodes}
    waiting = [node.index for node in patient.sites.nodes if node.module is site.module]
    while waiting:
        after = [nodes[index] for here in waiting for index in readers.get(here, [])]
        if any(node.kind == "function" and node.name.strip("_") in _SUMS for node in after):
            return True
        waiting = [node.index for node in after if _keeps_zero(node)]
    return False


def _keeps_zero(node: Node) -> bool:
    """Whether a branch goes on through it: dropout, stochastic depth, a scale, a change of shape."""
    name = node.name if node.kind == "function" else type(node.module).__name__
    return is_transparent(node) or bool(_SCALES.search(name))


def _parameters(site: NormSite) -> list[nn.Parameter]:
    """What is trained of a site: gamma, beta, and whatever else it owns."""
    return [] if site.module is None else [one for one in site.module.parameters() if one.requires_grad]


def _groups(optimizers: tuple[Optimizer, ...]) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers for group in optimizer.param_groups]


@rules.register(
    "D13",
    title="weight decay on gamma and beta",
    severity="note",
    needs=("optimizer",),
    cost="Gamma shrinks towards 0, which the next layer's weights make up for or not: decay does not regularize here, "
    "it changes the effective learning rate.",
)
def decayed(patient: Patient) -> Iterator[Symptom]:
    """The optimizer decays the parameters of a normalization.

    Whatever their class is called: also RMS norms of language models, which lists of class names miss.

    Evidence: the weight decay.

    Meant: one group with one decay for everything is the usual recipe of ImageNet, and a note. Where the optimizer has
    a group without decay and this layer is not in it, a list of names missed it: a warning. Frozen parameters are no
    finding, they do not decay.

    Fix: a group with weight_decay=0 that has them.

    Threads: ultralytics/yolov3#469, huggingface/transformers#35927, huggingface/transformers#38922,
    huggingface/transformers#42754, ServiceNow/Fast-LLM#542
    """
    groups = _groups(patient.optimizers)
    decays = {id(one): float(group.get("weight_decay") or 0) for group in groups for one in group["params"]}
    missed = any(decay == 0 for decay in decays.values()) and any(decays.values())
    for site in patient.norms:
        decay = max((decays.get(id(one), 0.0) for one in _parameters(site)), default=0.0)
        if decay > 0:
            yield Symptom(
                place=site.name,
                evidence=decay,
                measure="weight decay",
                message="Its parameters decay"
                + (
                    ", while the optimizer spares others: it was missed." if missed else ", as all others do."
                ),
                fix=f'{{"params": model.get_submodule({site.name!r}).parameters(), "weight_decay": 0.0}} as a group',
                severity="warning" if missed else "note",
            )


@rules.register(
    "D14",
    title="parameters without an optimizer",
    severity="error",
    needs=("optimizer",),
    cost="They stay as they are: the network trains around them.",
)
def not_optimized(patient: Patient) -> Iterator[Symptom]:
    """Gamma and beta need a gradient, and no group of the optimizer has them; or two have them.

    Typical causes: the optimizer was made before layers were converted or unfrozen, so it holds the parameters of
    modules that are gone; a list of names left them out.

    Evidence: the number of parameters.

    Meant: parameters with requires_grad=False are frozen and no finding. Where other layers of the network are in no
    group either, only a part is trained by this optimizer (as in a GAN): a warning.

    Fix: make the optimizer after the last change of the network, from model.parameters().

    Threads: meta-pytorch/opacus#571, pytorch/pytorch#187298
    """
    groups = _groups(patient.optimizers)
    held = [one for group in groups for one in group["params"]]
    counts: dict[int, int] = {}
    for one in held:
        counts[id(one)] = counts.get(id(one), 0) + 1
    own = {id(one) for one in patient.model.parameters()}
    gone = [one for one in held if id(one) not in own]
    owned = {id(one) for site in patient.norms if site.module for one in site.module.parameters()}
    others = [one for one in patient.model.parameters() if id(one) not in owned and one.requires_grad]
    partly = any(id(one) not in counts for one in others) and not gone
    for site in patient.norms:
        yield from _not_held(site, counts, partly)
    if gone:
        trained = [one for one in patient.model.parameters() if one.requires_grad]
        without = {tuple(one.shape) for one in trained if id(one) not in counts}
        replaced = any(tuple(one.shape) in without for one in gone)
        yield Symptom(
            place="",
            evidence=len(gone),
            measure="parameters of the optimizer that the network does not have",
            message="The optimizer holds parameters of layers that were replaced: it was made before the last change."
            if replaced
            else "The optimizer also trains parameters that are not in this network.",
            fix="make the optimizer again after the last change, from model.parameters()"
            if replaced
            else "nothing, where it trains another network, too",
            severity="error" if replaced else "note",
        )


def _not_held(site: NormSite, counts: dict[int, int], partly: bool) -> Iterator[Symptom]:
    trained = _parameters(site)
    missing = sum(one.numel() for one in trained if id(one) not in counts)
    twice = sum(one.numel() for one in trained if counts.get(id(one), 0) > 1)
    parameters = f"model.get_submodule({site.name!r}).parameters()"
    if missing:
        yield Symptom(
            place=site.name,
            evidence=missing,
            measure="trainable parameters in no group of the optimizer",
            message="Its parameters need a gradient, and no optimizer has them"
            + (", as other layers of the network." if partly else "."),
            fix=f'optimizer.add_param_group({{"params": list({parameters})}}), or requires_grad_(False) to freeze them',
            severity="warning" if partly else "error",
        )
    if twice:
        yield Symptom(
            place=site.name,
            evidence=twice,
            measure="parameters in two groups",
            message="Two groups or optimizers have its parameters: each step moves them twice.",
            fix=f"leave {parameters} in one group",
            cost="Their learning rate is twice the others', and moments of two optimizers fight.",
        )
