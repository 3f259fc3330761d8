"""Other precisions: half inputs with float32 parameters (as under mixed precision), and float64 throughout."""

from __future__ import annotations

import torch

from bnbench.base.user_code import first_line
from bnbench.verification.checklist import causes_of, check
from bnbench.verification.checks.training import dx
from bnbench.verification.fit import deviation
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.rules import hold
from bnbench.verification.subject import TOLERANCE, Subject

#: float64 against the float64 reference, relative.
_DOUBLE_TOLERANCE = 1e-9
#: More than this is what arithmetic in float32 costs.
_SINGLE = 1e-8


@check("float16 in and out", group="library")
def half(subject: Subject) -> None:
    """float16 in, float16 out, statistics in float32."""
    _half(subject, torch.float16)


@check("bfloat16 in and out", group="library")
def bfloat(subject: Subject) -> None:
    """bfloat16 in, bfloat16 out, statistics in float32."""
    _half(subject, torch.bfloat16)


@check("float32 in and out", group="library")
def single(subject: Subject) -> None:
    """float32 in, float32 out, in training and in eval."""
    layer, x = subject.layer(), subject.data("forward")
    for mode in (True, False):
        name = _name(subject.output(layer.train(mode), x).dtype)
        if name != "float32":
            where = "training" if mode else "eval"
            raise Wrong(f"float32 in, {name} out in {where}", causes=[f"the output is cast to {name}"])


@check("float64 throughout", group="library")
def double(subject: Subject) -> None:
    """A layer in float64 keeps its digits: inputs in float64 give float64 accuracy."""
    layer = subject.layer(torch.float64)
    x = subject.data("forward").double()
    y = subject.output(layer, x).detach()
    if y.dtype is not torch.float64:
        raise Wrong(f"float64 in, {_name(y.dtype)} out", causes=[f"the output is cast to {_name(y.dtype)}"])
    if subject.forward_is_wrong:
        raise Skip("the output is wrong already")
    size = deviation(y, subject.forward_expected(x), 1)
    words = "computed in float32: a layer in float64 loses half of its digits"
    single = (words,) if _SINGLE < size < TOLERANCE else ()
    hold(size, _DOUBLE_TOLERANCE, lambda: single)


@check("gradcheck (float64)")
def gradcheck(subject: Subject) -> None:
    """The backward pass is the derivative of the forward pass, whatever that is, by finite differences."""
    x = subject.data("forward").double()
    try:
        y = subject.output(subject.layer(torch.float64), x)
    except Exception as error:
        raise Skip(f"the layer does not compute in float64: {first_line(error)}") from error
    if y.dtype is not torch.float64 or (not subject.forward_is_wrong and causes_of(double, subject)):
        raise Skip("the layer does not compute in float64: differences would be rounding")
    layer = subject.layer(torch.float64)
    x = subject.data("gradcheck", eps=False)[: 3 if subject.rank < 4 else 2].double().requires_grad_()
    passed = torch.autograd.gradcheck(
        lambda leaf: subject.output(layer, leaf * 1), x, eps=1e-6, atol=1e-5, raise_exception=False
    )
    if not passed:
        forward = [str(cause) for cause in subject.forward_causes]  # no fault of the backward pass
        causes = [cause for cause in causes_of(dx, subject) if cause not in forward]
        raise Wrong(
            "the backward pass is not the derivative of the forward pass",
            causes=causes,
        )


def _half(subject: Subject, dtype: torch.dtype) -> None:
    """Spreads of hundreds: their squares pass float16's 65504, which statistics in float16 can't hold."""
    layer, name = subject.layer(), _name(dtype)
    x = (subject.data("half", eps=False) * 400).to(dtype)
    y = subject.output(layer, x).detach()
    if y.dtype is not dtype:
        raise Wrong(
            f"{name} in, {_name(y.dtype)} out",
            causes=["half inputs are not given back in their dtype: end forward with y.to(x.dtype)"],
        )
    _hold_statistics(subject, layer, x, name)
    if subject.forward_is_wrong:
        raise Skip("the output is wrong already")
    size = deviation(y, subject.forward_expected(x.double()), 1)
    hold(size, 8 * torch.finfo(dtype).eps, lambda: _in_half(size, name))


def _hold_statistics(subject: Subject, layer: torch.nn.Module, x: torch.Tensor, name: str) -> None:
    """The running mean moved by the mean of x, to float32's accuracy."""
    if "running_mean" not in subject.parts:
        return
    statistic = subject.parts["running_mean"].read(layer)
    if statistic.dtype in (torch.float16, torch.bfloat16):
        raise Wrong(
            f"running_mean is {_name(statistic.dtype)} after a {name} input", causes=_in_half(0.0, name)
        )
    exact = subject.layer()
    subject.output(exact, x.float())
    part = subject.parts["running_mean"]
    size = deviation(part.vector(layer), part.vector(exact), 0)
    hold(size, 1e-5, lambda: _in_half(size, name), f"running_mean after a {name} input")


def _in_half(size: float, name: str) -> tuple[str, ...]:
    """Rounding of half numbers, or their overflow: what statistics in half precision give, and no other mistake."""
    overflow = size == float("inf") and name == "float16"
    if overflow or size < 16 * torch.finfo(getattr(torch, name)).eps:
        return ("statistics are computed in half precision: x.float() before mean and variance",)
    return ()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
