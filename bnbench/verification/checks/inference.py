"""Eval mode: the output and its gradient from the running statistics, which do not change."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bnbench.base.user_code import first_line
from bnbench.verification import formulas
from bnbench.verification.causes import round_off
from bnbench.verification.checklist import causes_of, check
from bnbench.verification.checks.statistics import GRAD_MODE
from bnbench.verification.fit import close, deviation
from bnbench.verification.formulas import Formula
from bnbench.verification.hidden import affine
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.rules import hold
from bnbench.verification.subject import GRADIENT_TOLERANCE, STATISTICS, TOLERANCE, Subject

_UPDATED = "running statistics updated in eval: update only if self.training"


@check("eval output")
def output(subject: Subject) -> None:
    """The output in eval, from running statistics of known values, with gradients enabled."""
    if subject.statistics_are == "absent":
        kept = [role for role in STATISTICS if role in subject.parts]
        if kept:
            raise Wrong(f"{' and '.join(kept)} is kept, and eval uses the batch's statistics")
        raise Skip("the layer has no running mean and no running variance: in eval it uses the batch's")
    layer = subject.layer()
    mean, var = _known_statistics(subject, layer)
    x = subject.data("eval")
    y = subject.output(layer.eval(), x).detach()
    expected = subject.inference_expected(x, mean, var)

    def causes() -> tuple[object, ...]:
        if _right_without_grad(subject, x):
            return (GRAD_MODE,)
        if _right_after_an_update(subject, layer, x, y):
            return (_UPDATED,)
        if eps := _eps_that_fits(subject, x, y, mean, var):
            right = subject.rules.eps
            return (f"eps is {eps:g} in eval, where it is {right:g}: the same in training and in eval",)
        return subject.explain("eval output", fits, subject.forward_causes)

    def fits(formula: Formula) -> bool:
        predicted = formulas.evaluation(x.double(), mean, var, subject.gamma, subject.beta, formula)
        return close(y, predicted, TOLERANCE)

    hold(deviation(y, expected, 1), TOLERANCE, causes)


@check("large values in eval", needs=STATISTICS)
def far_out(subject: Subject) -> None:
    """In eval the layer is a straight line: nothing bounds its output."""
    if subject.eval_is_wrong:
        raise Skip("the output in eval is wrong already")
    layer = subject.layer()
    mean, var = _known_statistics(subject, layer)
    x = subject.data("far out") * 1e4
    y = subject.output(layer.eval(), x).detach()
    tolerance = TOLERANCE if subject.statistics_are == "tensors" else 1e-2
    hold(deviation(y, subject.inference_expected(x, mean, var), 1), tolerance)


def _right_after_an_update(subject: Subject, layer: torch.nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether eval uses the running statistics as it has just left them."""
    if subject.statistics_are != "tensors":
        return False
    return deviation(y, subject.inference_expected(x, *subject.statistics(layer)), 1) <= TOLERANCE


def _eps_that_fits(subject: Subject, x: Tensor, y: Tensor, mean: Tensor, var: Tensor) -> float | None:
    """The eps that explains an output in eval alone; None without one, or if training has it, too."""
    if subject.forward_is_wrong:
        return None
    slope, _ = affine(x.double(), y.double())
    eps = round_off(float((subject.gamma / slope)[0] ** 2 - var[0]))
    if not eps > 0:
        return None
    rules = replace(subject.rules, eps=eps)
    fits = deviation(y, replace(subject, rules=rules).inference_expected(x, mean, var), 1) <= TOLERANCE
    return eps if fits else None


@check("eval dx", needs=STATISTICS)
def gradient(subject: Subject) -> None:
    """In eval the layer is affine: dx = gamma * dy / sqrt(running_var + eps)."""
    layer = subject.layer()
    _, var = _known_statistics(subject, layer)
    x = subject.data("eval")
    if subject.eval_is_wrong:
        raise Skip("the output in eval is wrong already")
    leaf = x.clone().requires_grad_()
    y = subject.output(layer.eval(), leaf * 1)
    if not y.requires_grad:
        raise Wrong(
            "no gradient comes out of the layer in eval", causes=["the output in eval is cut from the graph"]
        )
    (dx,) = torch.autograd.grad(y, leaf, subject.upstream.to(y.dtype), allow_unused=True)
    if dx is None:
        raise Wrong("no gradient reaches x in eval", causes=["x is cut from the graph in eval"])
    scale = subject.gamma / torch.sqrt(var + subject.rules.eps)
    expected = subject.column(scale) * subject.upstream.double()
    hold(deviation(dx, expected, 1), GRADIENT_TOLERANCE)


@check("eval changes nothing", needs=STATISTICS)
def changes_nothing(subject: Subject) -> None:
    """A forward pass in eval leaves the running statistics alone."""
    layer, _ = subject.trained()
    before = subject.statistics(layer)
    subject.output(layer.eval(), subject.data("eval"))
    pairs = zip(STATISTICS, before, subject.statistics(layer), strict=True)
    for role, old, new in pairs:
        size = deviation(new, old, 0)
        if size > (0.0 if subject.statistics_are == "tensors" else 1e-4):
            by_grad = subject.eval_is_wrong and _right_without_grad(subject, subject.data("eval"))
            cause = GRAD_MODE if by_grad else _UPDATED
            raise Wrong(f"{role} moves in eval, by {size:.2g}", size, 0.0, [cause])


@check("one sample in eval", needs=STATISTICS)
def batch_of_one(subject: Subject) -> None:
    """A single sample in eval comes out as it does among others."""
    x = subject.data("eval")
    among = subject.output(subject.trained()[0].eval(), x).detach()[:1]
    if not among.isfinite().all():
        raise Skip("the output is wrong already")
    try:
        alone = subject.output(subject.trained()[0].eval(), x[:1]).detach()
    except Exception as error:
        raise Wrong(f"raised {first_line(error)}", causes=causes_of(output, subject)) from error
    if not torch.allclose(alone, among, rtol=1e-5, atol=1e-6):
        raise Wrong("a sample alone comes out otherwise than among others", causes=causes_of(output, subject))


def _known_statistics(subject: Subject, layer: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Set, where they are among the layer's tensors; else what three batches made of them."""
    if subject.statistics_are == "tensors":
        return subject.set_statistics(layer)
    for step in range(3):
        subject.output(layer, subject.data("step", step))
    return subject.statistics(layer)


def _right_without_grad(subject: Subject, x: Tensor) -> bool:
    with torch.no_grad():
        layer = subject.layer()
        with torch.enable_grad():
            mean, var = _known_statistics(subject, layer)
        y = subject.output(layer.eval(), x)
    return deviation(y, subject.inference_expected(x, mean, var), 1) <= TOLERANCE
