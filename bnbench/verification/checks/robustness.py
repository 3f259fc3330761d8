"""Inputs out of the ordinary: no variance, large offsets, NaN, and other layouts in memory."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bnbench.verification.checklist import check
from bnbench.verification.fit import deviation
from bnbench.verification.formulas import Formula
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.rules import hold
from bnbench.verification.subject import CHANNELS, STATISTICS, TOLERANCE, Subject

_FLOAT32 = 2.0**-24


@check("constant channel")
def constant(subject: Subject) -> None:
    """A channel without variance comes out as beta, and its gradient is finite: eps is there for that."""
    if subject.forward_is_wrong and not subject.forward_causes:
        raise Skip("the output is wrong already")
    x = subject.data("constant", eps=False)
    x[:, 0] = 3.0
    leaf = x.clone().requires_grad_()
    y = subject.output(subject.layer(), leaf * 1)
    seen = [y]
    if y.requires_grad:
        seen += torch.autograd.grad(y, leaf, subject.upstream.to(y.dtype))
    finite = _finite(*seen)
    if not all(finite):
        quantity = "the output" if not finite[0] else "the gradient"
        raise Wrong(
            f"{quantity} of a constant channel is NaN or infinite", causes=_unprotected(subject, x, finite)
        )
    size = float((y[:, 0].detach().double() - subject.beta[0]).abs().max())
    if size > 0.02 and not subject.forward_is_wrong:
        raise Wrong(f"a constant channel comes out {size:.2g} from beta", size, 0.02)


def _unprotected(subject: Subject, x: Tensor, finite: list[bool]) -> list[str]:
    right = subject.rules.right
    candidates: dict[str, Formula] = {
        "eps is missing under the root": replace(right, eps=0.0),
        "eps outside the root: sqrt(var) + eps, where it is sqrt(var + eps)": replace(right, root="outside"),
    }
    for words, formula in candidates.items():
        predicted = subject.training_under(formula, x)
        if finite == _finite(predicted["forward"], predicted["dx"])[: len(finite)]:
            return [words]
    return []


def _finite(*parts: Tensor) -> list[bool]:
    return [bool(part.isfinite().all()) for part in parts]


@check("offset 1e2 (float32)")
def offset_1e2(subject: Subject) -> None:
    """Values of 100 with a spread of 1."""
    _offset(subject, 1e2)


@check("offset 1e4 (float32)")
def offset_1e4(subject: Subject) -> None:
    """Values of 10,000 with a spread of 1."""
    _offset(subject, 1e4)


@check("offset 1e6 (float32)")
def offset_1e6(subject: Subject) -> None:
    """Values of a million with a spread of 1."""
    _offset(subject, 1e6)


def _offset(subject: Subject, offset: float) -> None:
    """Allowed: what a mean rounded to float32 costs, a few times 2^-24 * offset; not a lost variance."""
    if subject.forward_is_wrong:
        raise Skip("the output is wrong already without an offset")
    x = subject.data("offset", eps=False) + offset
    y = subject.output(subject.layer(), x).detach()
    expected = subject.forward_expected(x)
    tolerance = TOLERANCE + 8 * offset * _FLOAT32
    size = deviation(y, expected, 1)
    one_pass = deviation(_one_pass(subject, x), expected, 1)
    lost = ("E[x^2]-E[x]^2 loses its digits where the mean is large: subtract the mean first, then square",)
    alike = size == one_pass or one_pass / 30 <= size <= one_pass * 30 or not one_pass < float("inf")
    hold(size, tolerance, lambda: lost if alike else ())


def _one_pass(subject: Subject, x: Tensor) -> Tensor:
    """The output with var = E[x^2] - E[x]^2, in float32 throughout."""
    axes = (0, *range(2, x.dim()))
    mean = x.mean(axes, keepdim=True)
    var = (x * x).mean(axes, keepdim=True) - mean * mean
    gamma, beta = subject.column(subject.gamma.float()), subject.column(subject.beta.float())
    return gamma * (x - mean) / torch.sqrt(var + subject.rules.eps) + beta


@check("NaN stays in its channel", group="library")
def nan(subject: Subject) -> None:
    """One NaN in a channel does not change the output and the statistics of the other channels."""
    x = subject.data("forward")
    spoilt = x.clone()
    spoilt.view(len(x), CHANNELS, -1)[0, 0, 0] = float("nan")
    clean_layer, layer = subject.layer(), subject.layer()
    clean, y = subject.output(clean_layer, x).detach(), subject.output(layer, spoilt).detach()
    if not clean.isfinite().all():
        raise Skip("the output is NaN or infinite already")
    others = [(y[:, 1:], clean[:, 1:])]
    for role in STATISTICS:
        part = subject.parts.get(role)
        if part is not None and part.vector(layer).numel() == CHANNELS:
            others.append((part.vector(layer)[1:], part.vector(clean_layer)[1:]))
    if not all(torch.allclose(seen, expected, rtol=1e-5, atol=1e-6) for seen, expected in others):
        raise Wrong(
            "a NaN in channel 0 reaches other channels",
            causes=[str(cause) for cause in subject.forward_causes if "axes" in dict(cause.change)],
        )


@check("input left unchanged")
def unchanged(subject: Subject) -> None:
    """Forward does not write into its input."""
    layer = subject.layer()
    for mode in (True, False):
        x = subject.data("forward")
        before = x.clone()
        subject.output(layer.train(mode), x, as_is=True)
        if not torch.equal(x, before):
            raise Wrong(
                f"forward changes its input in {'training' if mode else 'eval'}",
                causes=["the input is changed in place (x -= ..., x.sub_): write x = x - ..."],
            )


@check("non-contiguous input", group="library")
def strided(subject: Subject) -> None:
    """A transposed and a strided input give what the same numbers in order give."""
    x = subject.data("forward")
    transposed = x.transpose(0, 1).contiguous().transpose(0, 1)
    spaced = torch.stack([x, x], -1).flatten(-2)[..., ::2]
    _same(subject, x, transposed, spaced)


@check("channels_last", group="library", ranks=(4, 5))
def channels_last(subject: Subject) -> None:
    """The memory format of images that are fast on many devices."""
    x = subject.data("forward")
    wanted = torch.channels_last if subject.rank == 4 else torch.channels_last_3d
    _same(subject, x, x.to(memory_format=wanted))


def _same(subject: Subject, x: Tensor, *others: Tensor) -> None:
    expected = subject.output(subject.layer(), x).detach()
    if not expected.isfinite().all():
        raise Skip("the output is NaN or infinite already")
    for other in others:
        seen = subject.output(subject.layer(), other, as_is=True).detach()
        hold(deviation(seen, expected, 1), 1e-3 if subject.forward_is_wrong else 2e-5)
