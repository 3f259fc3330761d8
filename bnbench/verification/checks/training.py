"""Training mode: the output, and the gradients of x, gamma and beta."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from bnbench.verification import reference
from bnbench.verification.checklist import check
from bnbench.verification.fit import deviation
from bnbench.verification.formulas import Formula
from bnbench.verification.outcome import Wrong
from bnbench.verification.rules import hold
from bnbench.verification.subject import GRADIENT_TOLERANCE, TOLERANCE, Subject

NO_PARAMETERS = "gamma or beta not registered as parameters: nn.Parameter(...), or no optimizer trains them"
FROZEN = "gamma or beta is frozen from the start"
_ROLES = {"dx": "x", "dgamma": "gamma", "dbeta": "beta"}
_CUT = "the output is cut from the graph (detach, .data, no_grad, .item() or NumPy in forward)"


@check("forward")
def forward(subject: Subject) -> None:
    """The output in training, float32."""
    x = subject.data("forward")
    y = subject.output(subject.layer(), x).detach()
    hold(deviation(y, subject.forward_expected(x), 1), TOLERANCE, lambda: subject.forward_causes)


@check("same input, same output")
def repeatable(subject: Subject) -> None:
    """Nothing random is inside: two fresh layers give the same, also from other states of torch's generator."""
    x, layers = subject.data("forward"), (subject.layer(), subject.layer())
    for mode in (True, False):
        outputs = []
        for seed, layer in enumerate(layers):
            torch.manual_seed(seed)
            outputs.append(subject.output(layer.train(mode), x).detach())
        size = deviation(outputs[1], outputs[0], 1)
        hold(size, 1e-5, functools.partial(_random, outputs), "" if mode else "in eval it")


def _random(outputs: list[Tensor]) -> tuple[str, ...]:
    finite = all(bool(y.isfinite().all()) for y in outputs)
    return ("something random is in the layer (noise, dropout): the same input gives other outputs",) * finite


@check("dx")
def dx(subject: Subject) -> None:
    """The gradient of the input."""
    _gradient(subject, "dx")


@check("dgamma", needs=["gamma"])
def dgamma(subject: Subject) -> None:
    """The gradient of gamma."""
    _gradient(subject, "dgamma")


@check("dbeta", needs=["beta"])
def dbeta(subject: Subject) -> None:
    """The gradient of beta."""
    _gradient(subject, "dbeta")


def _gradient(subject: Subject, name: str) -> None:
    x = subject.data("forward")
    seen = _seen(subject, x, name)
    axis, shared = (1 if name == "dx" else 0), subject.is_shared(_ROLES[name])

    def summed(gradient: Tensor) -> Tensor:
        return gradient.sum().reshape(1) if shared else gradient

    expected = summed(dict(zip(("dx", "dgamma", "dbeta"), _expected(subject, x), strict=True))[name])

    def fits(formula: Formula) -> bool:
        predicted = summed(subject.training_under(formula, x)[name])
        return deviation(seen, predicted, axis) <= GRADIENT_TOLERANCE

    hold(
        deviation(seen, expected, axis),
        GRADIENT_TOLERANCE,
        lambda: subject.explain(name, fits, subject.forward_causes),
    )


def _seen(subject: Subject, x: Tensor, name: str) -> Tensor:
    """The gradient that the layer's backward pass gives. Raises Wrong where no gradient comes."""
    layer, leaf = subject.layer(), x.clone().requires_grad_()
    y = subject.output(layer, leaf * 1)  # * 1: inside a network the input is not a leaf
    if not y.requires_grad:
        raise Wrong("no gradient comes out of the layer", causes=[_CUT])
    asked = leaf if name == "dx" else subject.parts[_ROLES[name]].read(layer)
    if not asked.requires_grad:
        registered = subject.parts[_ROLES[name]].kind == "parameter"
        cause = FROZEN if registered else NO_PARAMETERS
        raise Wrong(f"{_ROLES[name]} asks for no gradient", causes=[cause])
    (gradient,) = torch.autograd.grad(y, asked, subject.upstream.to(y.dtype), allow_unused=True)
    if gradient is None:
        unused = (f"{_ROLES[name]} takes no part in the output, or is cut from the graph",)
        raise Wrong(
            f"no gradient reaches {_ROLES[name]}", causes=[str(c) for c in subject.forward_causes or unused]
        )
    return gradient


def _expected(subject: Subject, x: Tensor) -> tuple[Tensor, ...]:
    upstream = np.asarray(subject.upstream.double())
    gradients = reference.backward(
        np.asarray(x.double()), np.asarray(subject.gamma), subject.rules.eps, upstream
    )
    return tuple(torch.from_numpy(array) for array in gradients)
