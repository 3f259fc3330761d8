"""A softmax or a sigmoid at the output of a network whose loss has one, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from bnbench.base.user_code import raise_interrupt
from bnbench.network.doctor.measures import batches_of, has_inputs
from bnbench.network.doctor.passes import training_flags
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.doctor.untouched import called, main_output, untouched

#: How near sums lie to 1 in float32.
_NEAR = 1e-4
Form = Literal["softmax", "log_softmax", "sigmoid", "other"]
Loss = Literal["softmax", "nll", "sigmoid", "other", "unknown"]


@rules.register(
    "D15",
    title="softmax before the loss",
    cost="The loss takes a softmax of probabilities: it can't fall near 0, and gradients are small.",
    needs=("forward",),
)
def softmax_before_loss(patient: Patient) -> Iterator[Symptom]:
    """The network ends in a softmax, a log-softmax or a sigmoid, and its loss has one, too.

    Outputs that are not negative and sum to one at every input are probabilities. Whether the loss of the study takes a
    softmax itself is tried: it does where a number added to all outputs of a sample changes nothing. A cross-entropy of
    C probabilities is at least ln(1 + (C - 1) / e).

    Evidence: the largest distance of a sum from one, over all inputs; of a sigmoid, the largest output.

    Meant: without data the loss is not known: probabilities at the output are a warning then. A log-softmax before a
    cross-entropy changes nothing and is a note. A softmax inside the network (attention) or in eval mode alone is none.

    Fix: return logits; take the softmax where probabilities are shown.

    Threads: Lightning-Universe/lightning-bolts#654, ariecattan/SciCo#2
    """
    if not has_inputs(patient):
        return
    outputs, targets = _outputs(patient)
    if outputs is None or outputs.ndim < 2 or not outputs.is_floating_point():
        return
    form, axis = form_of(outputs)
    if form == "other" and _ends_in_sigmoid(patient):
        form = "sigmoid"
    loss = _loss_of(patient, outputs, targets)
    symptom = _judged(form, loss, outputs, axis)
    if symptom is not None:
        yield symptom


def _judged(form: Form, loss: Loss, outputs: Tensor, axis: int) -> Symptom | None:
    if form == "softmax" and loss in _OF_PROBABILITIES:
        return _of_probabilities(loss, outputs, axis)
    apart = _apart(outputs.exp(), axis)
    if form == "log_softmax" and loss == "softmax":
        return Symptom(
            place="",
            evidence=apart,
            measure="largest distance of the sum of exp(output) from one",
            message="The network gives log-probabilities, and its loss takes a log-softmax of them again.",
            fix="return logits, or use NLLLoss",
            severity="note",
            cost="Nothing but time: a log-softmax of log-probabilities is the same.",
        )
    if form == "other" and loss == "nll":
        return Symptom(
            place="",
            evidence=apart,
            measure="largest distance of the sum of exp(output) from one",
            message="The loss takes log-probabilities, and the network gives none.",
            fix="a log_softmax at the end of forward, or CrossEntropyLoss",
            severity="error",
            cost="The loss falls without limit while nothing is learnt.",
        )
    if form == "sigmoid" and loss in ("sigmoid", "softmax"):
        return Symptom(
            place="",
            evidence=float(outputs.max()),
            measure="largest output",
            message="The network ends in a sigmoid, and its loss takes logits.",
            fix="return logits: take the sigmoid out of forward",
            severity="error" if loss == "sigmoid" else "warning",
            cost="The loss takes a sigmoid or a softmax of numbers between 0 and 1: it can't fall near 0.",
        )
    return None


#: What is wrong with probabilities as the input of a loss.
_OF_PROBABILITIES: dict[Loss, str] = {
    "softmax": "The network gives probabilities, and its loss takes a softmax of them again.",
    "nll": "The network gives probabilities, and its loss takes log-probabilities.",
    "unknown": "The network gives probabilities: CrossEntropyLoss would take a softmax of them again.",
}


def _of_probabilities(loss: Loss, outputs: Tensor, axis: int) -> Symptom:
    classes = outputs.shape[axis]
    least = math.log(1 + (classes - 1) / math.e)
    return Symptom(
        place="",
        evidence=_apart(outputs, axis),
        measure="largest distance of an output's sum from one",
        message=_OF_PROBABILITIES[loss],
        fix="return logits: take the softmax out of forward",
        severity="warning" if loss == "unknown" else "error",
        cost=f"A cross-entropy of {classes} probabilities can't fall below {least:.2f}.",
    )


def _apart(values: Tensor, axis: int) -> float:
    """The largest distance of a sum from one."""
    return float((values.double().sum(axis) - 1).abs().max())


def _outputs(patient: Patient) -> tuple[Tensor | None, Any]:
    """Of two batches in training mode, where the loss sees them, with the targets of the first."""
    batches = batches_of(patient)[: 1 if patient.data is None else 2]
    found = []
    with untouched(patient.model) as device, torch.no_grad():
        training_flags(patient.model)
        for batch in batches:
            output = main_output(called(patient.model, batch.inputs, device))
            if output is None:
                return None, None
            found.append(output.detach().cpu())
    if len({one.shape[1:] for one in found}) > 1:
        found = found[:1]
    if batches[0].targets is None:
        return torch.cat(found), None
    return found[0], batches[0].targets


def form_of(outputs: Tensor) -> tuple[Form, int]:
    """What the outputs are, and the axis of the classes: the second, or the last."""
    values = outputs.double()
    for axis in dict.fromkeys((1, outputs.ndim - 1)):
        if outputs.shape[axis] < 2 or not values.isfinite().all():
            continue
        if bool((values >= 0).all()) and float((values.sum(axis) - 1).abs().max()) < _NEAR:
            return "softmax", axis
        if bool((values <= 1e-6).all()) and float(values.logsumexp(axis).abs().max()) < _NEAR:
            return "log_softmax", axis
    return "other", 1


def _ends_in_sigmoid(patient: Patient) -> bool:
    """Whether the flow of data ends in a sigmoid."""
    nodes = {node.index: node for node in patient.sites.nodes}
    ends = [node for node in nodes.values() if node.kind == "output"]
    before = [nodes[index] for end in ends for index in end.inputs if index in nodes]
    return any(
        isinstance(node.module, torch.nn.Sigmoid) or (node.kind == "function" and "sigmoid" in node.name)
        for node in before
    )


def _loss_of(patient: Patient, outputs: Tensor, targets: Any) -> Loss:
    """What the loss takes, found by trials."""
    objective = patient.data.objective if patient.data is not None else None
    if objective is None or targets is None:
        return "unknown"
    try:
        return loss_form(objective, outputs, targets)
    except BaseException as error:  # outputs that the study's loss does not take
        raise_interrupt(error)
        return "unknown"


def loss_form(objective: Callable[[Any, Any], Tensor], outputs: Tensor, targets: Any) -> Loss:
    """softmax: a number added to all outputs of a sample changes nothing. nll: it is taken off the loss.

    sigmoid: the loss is the binary cross-entropy of logits.
    """
    with torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        logits = torch.randn(outputs.shape, generator=draw, dtype=torch.float64)
        loss = float(objective(logits, targets))
        shifted = float(objective(logits + 3, targets))
        scaled = float(objective(2 * logits, targets))
        near = 1e-6 * (1 + abs(loss))
        if abs(shifted - loss) < near and abs(scaled - loss) > near:
            return "softmax"
        if abs(loss - 3 - shifted) < near and abs(scaled - 2 * loss) < near:
            return "nll"
        if isinstance(targets, Tensor) and targets.shape == logits.shape:
            of_logits = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.double())
            if abs(float(of_logits) - loss) < near:
                return "sigmoid"
    return "other"
