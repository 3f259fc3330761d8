"""The momentum of running statistics: its convention, its window, and the values that switch it off."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.doctor.trained import batches_of, has_statistics
from bnbench.network.sites.norm_site import NormSite

#: The usual range: 1e-3 averages a thousand batches, 0.5 two.
_LOW, _HIGH = 1e-3, 0.5
#: The share of the initial statistics that matters.
_REST = 0.01


def _updated(patient: Patient) -> Iterator[NormSite]:
    kinds = ("batch", "sync", "instance")  # of instance norms those with track_running_stats=True
    return (site for site in patient.norms if site.behaviour.kind in kinds and has_statistics(site))


@rules.register(
    "D10",
    title="unusual momentum",
    cost="Too large: inference rests on the last one or two batches. Too small: what is left of the initial statistics "
    "is in every output.",
)
def unusual_momentum(patient: Patient) -> Iterator[Symptom]:
    """The momentum is outside of 0.001 to 0.5, or the training was too short for it.

    In PyTorch it is the weight of the new batch (0.1); in TensorFlow and Keras that of the old value (0.99). Who copies
    0.99 keeps 1 % of the past. A small one averages about 1/momentum batches, and needs several times as many.

    Evidence: the momentum; where training was too short, the share of the initial statistics that is left, in percent.

    Meant: MnasNet's 3e-4 and EfficientNet's 0.01 are meant: long trainings with an average over thousands of batches.
    A small momentum is a note, unless the batches that the layer counted show that too few came.

    Fix: momentum=1 - m for an m of TensorFlow; a larger one, or precise statistics (update_bn), for a short training.

    Threads: pytorch/vision#8250, huggingface/transformers#19454, r9y9/tacotron_pytorch#19,
    fastestimator/fastestimator#1201, affinelayer/pix2pix-tensorflow#126
    """
    for site in _updated(patient):
        momentum = site.behaviour.momentum
        if momentum is None or momentum == 0:
            continue
        name = f"model.get_submodule({site.name!r}).momentum"
        steps, rest = _rest_of(patient, site, momentum)
        if momentum > _HIGH:
            yield Symptom(
                place=site.name,
                evidence=momentum,
                measure="momentum (weight of the new batch)",
                message="Inference rests on the last batch or two. It looks like TensorFlow's convention, where it is "
                "the weight of the old value.",
                fix=f"{name} = {1 - momentum:.4g}" if momentum < 1 else f"{name} = 0.1",
            )
        elif steps and rest > _REST:
            yield Symptom(
                place=site.name,
                evidence=100 * rest,
                measure="% of the initial statistics left",
                message=f"The training of {steps} batches is short for momentum {momentum:g}: the initial mean 0 and "
                "variance 1 are still in the running statistics.",
                fix=_for_steps(name, steps),
            )
        elif momentum < _LOW:
            yield Symptom(
                place=site.name,
                evidence=momentum,
                measure="momentum (weight of the new batch)",
                message=f"The running statistics average about {1 / momentum:.0f} batches. That is right for a "
                f"training of at least {math.log(_REST) / math.log1p(-momentum):.0f}.",
                fix=f"nothing for a long training (MnasNet has 3e-4); else {name} = 0.1",
                severity="note",
            )


def _for_steps(name: str, steps: int) -> str:
    """A momentum with which so many batches leave 1 % of the initial statistics, rounded up, or a longer training."""
    needed = math.ceil(-math.expm1(math.log(_REST) / steps) * 1e4) / 1e4
    longer = f"train for {math.log(_REST) / math.log1p(-0.1):.0f} batches or more with momentum 0.1"
    first = f"{name} = {needed:g} for the next training" if needed <= _HIGH else longer
    return f"{first}, or estimate them: torch.optim.swa_utils.update_bn(loader, model)"


def _rest_of(patient: Patient, site: NormSite, momentum: float) -> tuple[int, float]:
    """The batches of training (0: not known), and the share of the initial statistics after them."""
    planned = patient.data.steps if patient.data and patient.data.steps else 0
    steps = max(batches_of(site), planned)
    return steps, (1 - momentum) ** steps if momentum < 1 else 0.0


@rules.register(
    "D11",
    title="momentum 0 or None",
    cost="With 0 the running statistics never move: inference uses whatever they were. With None all batches since the "
    "first count as much: inference uses those of weights that are long gone.",
)
def no_momentum(patient: Patient) -> Iterator[Symptom]:
    """The momentum is 0 (statistics stand still) or None (the plain average over all batches ever seen).

    None is right for estimating statistics of fixed weights, as `update_bn` does, which sets it for a pass; an error in
    that pass leaves it behind.

    Evidence: the weight of the next batch: 0, or 1 / (batches + 1).

    Meant: None is a note: some train with it on purpose. 0 in a layer that is in eval mode is no finding.

    Fix: momentum=0.1; for frozen statistics .eval().

    Threads: pytorch/pytorch#37823, Cadene/pretrained-models.pytorch#5
    """
    for site in _updated(patient):
        momentum = site.behaviour.momentum
        name = f"model.get_submodule({site.name!r})"
        if momentum == 0 and (site.training or not patient.model.training):
            yield Symptom(
                place=site.name,
                evidence=0.0,
                measure="weight of the next batch in the running statistics",
                message="With momentum 0 the running statistics never move.",
                fix=f"{name}.momentum = 0.1, or {name}.eval() to freeze it",
            )
        elif momentum is None and getattr(site.module, "momentum", 0) is None:
            yield Symptom(
                place=site.name,
                evidence=1 / (batches_of(site) + 1),
                measure="weight of the next batch in the running statistics",
                message="With momentum None the running statistics are the plain average over all batches, the "
                "earliest included.",
                fix=f"{name}.momentum = 0.1 for training",
                severity="note",
            )
