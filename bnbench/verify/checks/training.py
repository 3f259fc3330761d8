"""Training mode: the output, and the gradients of x, gamma and beta."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnbench.verify import reference
from bnbench.verify.causes import deviation
from bnbench.verify.formulas import Formula
from bnbench.verify.outcome import Wrong, check
from bnbench.verify.subject import GRADIENT_TOLERANCE, TOLERANCE, Subject, hold

CUT = "the output is cut from the graph (detach, .data, no_grad, .item() or NumPy in forward)"


@check("forward")
def forward(subject: Subject) -> None:
    """The output in training, float32."""
    x = subject.data("forward")
    y = subject.output(subject.layer(), x).detach()
    hold(deviation(y, subject.forward_expected(x), 1), TOLERANCE, lambda: subject.forward_causes)


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
    seen = _gradients(subject, x).get(name)
    if seen is None:
        part = name.removeprefix("d")
        unused = (f"{part} takes no part in the output, or is cut from the graph",)
        raise Wrong(f"no gradient reaches {part}", causes=[str(c) for c in subject.forward_causes or unused])
    expected = dict(zip(("dx", "dgamma", "dbeta"), _expected(subject, x), strict=True))[name]
    axis = 1 if name == "dx" else 0

    def fits(formula: Formula) -> bool:
        return deviation(seen, subject.training_under(formula, x)[name], axis) <= GRADIENT_TOLERANCE

    hold(
        deviation(seen, expected, axis),
        GRADIENT_TOLERANCE,
        lambda: subject.explain(name, fits, subject.forward_causes),
    )


def _gradients(subject: Subject, x: Tensor) -> dict[str, Tensor]:
    """What the layer's backward pass gives. Raises Wrong where no gradient comes."""
    layer, leaf = subject.layer(), x.clone().requires_grad_()
    y = subject.output(layer, leaf * 1)  # * 1: inside a network the input is no leaf
    leaves = {"dx": leaf}
    for name, role in (("dgamma", "gamma"), ("dbeta", "beta")):
        if role in subject.parts:
            leaves[name] = subject.parts[role].read(layer)
    wanted = {name: tensor for name, tensor in leaves.items() if tensor.requires_grad}
    if not y.requires_grad:
        raise Wrong("no gradient comes out of the layer", causes=[CUT])
    found = torch.autograd.grad(y, list(wanted.values()), subject.upstream.to(y.dtype), allow_unused=True)
    return {name: gradient for name, gradient in zip(wanted, found, strict=True) if gradient is not None}


def _expected(subject: Subject, x: Tensor) -> tuple[Tensor, ...]:
    upstream = np.asarray(subject.upstream.double())
    gradients = reference.backward(
        np.asarray(x.double()), np.asarray(subject.gamma), subject.rules.eps, upstream
    )
    return tuple(torch.from_numpy(array) for array in gradients)
