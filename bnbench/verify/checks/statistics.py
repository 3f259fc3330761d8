"""The running statistics: how they move in training, and that they hold on to no graph."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnbench.verify import formulas, reference
from bnbench.verify.causes import Cause, deviation
from bnbench.verify.checklist import check
from bnbench.verify.formulas import Formula
from bnbench.verify.outcome import Wrong
from bnbench.verify.subject import CHANNELS, TOLERANCE, Subject, hold

STATISTICS = ("running_mean", "running_var")


@check("running_mean (3 steps)", needs=["running_mean"])
def running_mean(subject: Subject) -> None:
    """The running mean after each of three batches."""
    _running(subject, "running_mean")


@check("running_var (3 steps)", needs=["running_var"])
def running_var(subject: Subject) -> None:
    """The running variance after each of three batches."""
    _running(subject, "running_var")


@check("statistics detached", needs=STATISTICS)
def detached(subject: Subject) -> None:
    """After a step with gradients no graph hangs on the running statistics, and a second step works."""
    layer = subject.layer()
    for step in range(2):
        leaf = subject.data("step", step).requires_grad_()
        y = subject.output(layer, leaf * 1)
        for role in STATISTICS:
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
    subject.output(with_grad, x)
    with torch.no_grad():
        subject.output(without, x)
    start = subject.statistics(subject.layer())
    for role, old in zip(STATISTICS, start, strict=True):
        new = subject.parts[role].vector(without)
        if deviation(new, subject.parts[role].vector(with_grad), 0) > TOLERANCE:
            causes = [GRAD_MODE] if torch.equal(new, old) else []
            raise Wrong(f"{role} moves otherwise under torch.no_grad()", causes=causes)


GRAD_MODE = (
    "training or eval is told by torch.is_grad_enabled(): it is self.training's to say, "
    "which .train() and .eval() set"
)


@check("num_batches_tracked", needs=["counter"])
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
    layer = subject.layer()
    batches = [subject.data("step", step) for step in range(3)]
    start = {name: subject.parts[name].vector(layer) for name in STATISTICS if name in subject.parts}
    start = {
        name: vector.expand(CHANNELS) if vector.numel() == 1 else vector for name, vector in start.items()
    }
    mean, var = (start.get(name, torch.zeros(CHANNELS, dtype=torch.float64)) for name in STATISTICS)
    steps = []
    for x in batches:
        subject.output(layer, x)
        steps.append(subject.parts[role].vector(layer))
    if len({step.numel() for step in steps}) > 1:
        raise Wrong(f"{role} changes its size between steps: {[step.numel() for step in steps]}")
    seen = torch.stack(steps)
    expected = _expected(subject, batches, mean, var)[STATISTICS.index(role)]

    def fits(formula: Formula) -> bool:
        predicted = formulas.running([x.double() for x in batches], mean, var, formula)[role]
        if predicted.numel() < seen.numel():  # one number for all channels
            predicted = predicted.expand_as(seen)
        return deviation(seen, predicted, 1) <= TOLERANCE

    def causes() -> tuple[Cause, ...]:
        return subject.explain(role, fits, subject.forward_causes)

    if seen.shape != expected.shape:
        raise Wrong(
            f"it holds {seen.shape[1]} numbers, not one per channel",
            causes=[str(cause) for cause in causes()],
        )
    hold(deviation(seen, expected, 1), TOLERANCE, causes)


def _expected(subject: Subject, batches: list[Tensor], mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """(steps, C) each, from the reference."""
    rules, now = subject.rules, (np.asarray(mean), np.asarray(var))
    steps = []
    for x in batches:
        array = np.asarray(x.double())
        now = reference.moved(*now, array, rules.new_weight, unbiased=rules.kept == "unbiased")
        steps.append(now)
    means, variances = zip(*steps, strict=True)
    return torch.from_numpy(np.stack(means)), torch.from_numpy(np.stack(variances))
