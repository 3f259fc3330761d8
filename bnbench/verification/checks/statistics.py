"""The running statistics: how they move in training, and that they hold on to no graph."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from bnbench.verification import formulas, reference
from bnbench.verification.cause import Cause
from bnbench.verification.checklist import check
from bnbench.verification.fit import deviation
from bnbench.verification.formulas import Formula
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.rules import hold
from bnbench.verification.subject import CHANNELS, STATISTICS, TOLERANCE, Subject

_MANY = 30


@check("running_mean (3 steps)", needs=["running_mean"])
def running_mean(subject: Subject) -> None:
    """The running mean after each of three batches."""
    _running(subject, "running_mean")


@check("running_var (3 steps)", needs=["running_var"])
def running_var(subject: Subject) -> None:
    """The running variance after each of three batches."""
    _running(subject, "running_var")


@check("30 steps")
def many_steps(subject: Subject) -> None:
    """After 30 batches in training the layer still does what it did with the first three: no call is special."""
    if subject.forward_is_wrong:
        raise Skip("the output is wrong already")
    layer, kept = subject.layer(), subject.statistics_are != "absent"
    batches = [subject.data("step", step) for step in range(_MANY)]
    mean, var = _start(subject, layer) if kept else (torch.zeros(CHANNELS), torch.ones(CHANNELS))
    expected = _expected(subject, batches, mean, var)
    for number, x in enumerate(batches, start=1):
        y = subject.output(layer, x).detach()
        if kept and number in (3, _MANY):
            now = subject.statistics(layer)
            sizes = [deviation(seen, right[number - 1], 0) for seen, right in zip(now, expected, strict=True)]
            if number == 3 and max(sizes) > _tolerance(subject):
                raise Skip("the running statistics are wrong already after 3 steps")
            for role, size in zip(STATISTICS, sizes, strict=True):
                hold(size, _tolerance(subject), quantity=f"{role} after {_MANY} steps")
    hold(deviation(y, subject.forward_expected(x), 1), TOLERANCE, quantity=f"the output of step {_MANY}")


@check("statistics detached", needs=STATISTICS)
def detached(subject: Subject) -> None:
    """After a step with gradients no graph hangs on the running statistics, and a second step works."""
    layer = subject.layer()
    for step in range(2):
        leaf = subject.data("step", step).requires_grad_()
        y = subject.output(layer, leaf * 1)
        for role in (role for role in STATISTICS if role in subject.parts):
            statistic = subject.parts[role].read(layer)
            if isinstance(statistic, Tensor) and statistic.requires_grad:
                raise Wrong(
                    f"{role} carries a gradient after a step",
                    causes=[
                        "statistics not detached: the update keeps the graph of every batch (memory grows, the "
                        "second backward fails); update under torch.no_grad(), or from mean.detach()"
                    ],
                )
        if y.requires_grad:
            torch.autograd.backward(y.sum())


@check("statistics under no_grad", needs=STATISTICS)
def under_no_grad(subject: Subject) -> None:
    """In training mode the statistics move with or without gradients: the mode is self.training's."""
    with_grad, x = subject.layer(), subject.data("step", 0)
    without = subject.layer()
    start = _start(subject, subject.layer())
    subject.output(with_grad, x)
    with torch.no_grad():
        subject.output(without, x)
    moved, expected = subject.statistics(without), subject.statistics(with_grad)
    for role, old, new, other in zip(STATISTICS, start, moved, expected, strict=True):
        if deviation(new, other, 0) > TOLERANCE:
            causes = [GRAD_MODE] if deviation(new, old, 0) < TOLERANCE else []
            raise Wrong(f"{role} moves otherwise under torch.no_grad()", causes=causes)


GRAD_MODE = (
    "training or eval is decided by torch.is_grad_enabled(): self.training decides it, "
    "which .train() and .eval() set"
)


@check("num_batches_tracked", group="library", needs=["counter"])
def counter(subject: Subject) -> None:
    """Counts batches in training, and nothing in eval."""
    layer, batches = subject.trained(3)
    counted = int(subject.parts["counter"].vector(layer))
    subject.output(layer.eval(), batches[0])
    after = int(subject.parts["counter"].vector(layer))
    if counted != 3:
        why = "num_batches_tracked is never counted up in forward" if counted == 0 else ""
        raise Wrong(f"it is {counted} after 3 batches", causes=[why] if why else [])
    if after != 3:
        raise Wrong("it counts in eval too", causes=["num_batches_tracked is counted up in eval"])


def _running(subject: Subject, role: str) -> None:
    layer, which = subject.layer(), STATISTICS.index(role)
    batches = [subject.data("step", step) for step in range(3)]
    mean, var = _start(subject, layer)
    steps = []
    for x in batches:
        subject.output(layer, x)
        steps.append(_now(subject, layer, role))
    if len({step.numel() for step in steps}) > 1:
        raise Wrong(f"{role} changes its size between steps: {[step.numel() for step in steps]}")
    seen = torch.stack(steps)
    expected = _expected(subject, batches, mean, var)[which]

    def fits(formula: Formula) -> bool:
        predicted = formulas.running([x.double() for x in batches], mean, var, formula)[role]
        if predicted.numel() < seen.numel():  # one number for all channels
            predicted = predicted.expand_as(seen)
        return deviation(seen, predicted, 1) <= _tolerance(subject)

    def causes() -> tuple[Cause, ...]:
        return subject.explain(role, fits, subject.forward_causes)

    if seen.shape != expected.shape:
        raise Wrong(
            f"it holds {seen.shape[1]} numbers, not one per channel",
            causes=[str(cause) for cause in causes()],
        )
    hold(deviation(seen, expected, 1), _tolerance(subject), causes)


def _tolerance(subject: Subject) -> float:
    """Solved for from outputs, statistics have fewer digits than read."""
    return TOLERANCE if subject.statistics_are == "tensors" else 1e-3


def _now(subject: Subject, layer: torch.nn.Module, role: str) -> Tensor:
    if role in subject.parts:
        return subject.parts[role].vector(layer)
    return subject.statistics(layer)[STATISTICS.index(role)]


def _start(subject: Subject, layer: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Before the first batch, (C,) each; 0 and 1 where the layer has none yet."""
    vectors = []
    for role, usual in zip(STATISTICS, (0.0, 1.0), strict=True):
        vector = torch.full((CHANNELS,), usual, dtype=torch.float64)
        with contextlib.suppress(Exception):
            now = _now(subject, layer, role)
            vector = now.expand(CHANNELS) if now.numel() == 1 else now
        vectors.append(vector)
    return vectors[0], vectors[1]


def _expected(subject: Subject, batches: list[Tensor], mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """(steps, C) each, from the reference."""
    rules, now = subject.rules, (np.asarray(mean), np.asarray(var))
    steps = []
    for number, x in enumerate(batches, start=1):
        array = np.asarray(x.double())
        now = reference.moved(*now, array, rules.new_weight(number), unbiased=rules.kept == "unbiased")
        steps.append(now)
    means, variances = zip(*steps, strict=True)
    return torch.from_numpy(np.stack(means)), torch.from_numpy(np.stack(variances))
