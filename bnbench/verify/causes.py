"""The usual mistakes, each as a change of the formula and in words; and which of them fits what was seen.

A mistake is named only where the numbers that it would give are the numbers that the layer gave, to the
tolerance of the check. Two mistakes at once are tried where no single one fits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bnbench.verify.formulas import Formula

_FORWARD = ("forward", "dx", "dgamma", "dbeta", "eval output")
BACKWARD = ("dx", "dgamma", "dbeta")
_RUNNING = ("running_mean", "running_var")


_AVERAGED = "the gradients of gamma and beta are averaged over the batch: they are sums"


@dataclass(frozen=True)
class Cause:
    """A mistake: what it is in words, what it changes in the formula, and in which checks it can show."""

    words: str
    change: tuple[tuple[str, Any], ...]
    shows_in: tuple[str, ...]
    ranks: tuple[int, ...] = (2, 3, 4)

    def applied(self, formula: Formula) -> Formula:
        """The formula with this mistake."""
        return replace(formula, **dict(self.change))

    def __str__(self) -> str:
        return self.words


def _cause(shows_in: tuple[str, ...], words: str, ranks: tuple[int, ...] = (2, 3, 4), **change: Any) -> Cause:
    return Cause(words, tuple(change.items()), shows_in, ranks)


_FIXED = (
    _cause(
        ("forward", "dx", "dgamma"),
        "normalized with the unbiased variance in training: the batch's variance divides by n "
        "(unbiased=False); n - 1 is for running_var alone",
        divisor="n - 1",
    ),
    _cause(_FORWARD, "eps outside the root: sqrt(var) + eps, where it is sqrt(var + eps)", root="outside"),
    _cause(_FORWARD, "divided by var + eps: the square root is missing", root="variance"),
    _cause(_FORWARD, "not divided by the standard deviation", root="none"),
    _cause(_FORWARD, "the mean is not subtracted", centred=False),
    _cause(
        (*_FORWARD, *_RUNNING),
        "statistics over the wrong axes: over the batch alone, per position; they go over every axis but "
        "the channels', (0, 2) of 3-D and (0, 2, 3) of 4-D inputs",
        (3, 4),
        axes="position",
    ),
    _cause(
        (*_FORWARD, *_RUNNING),
        "statistics over each sample's own values: that is layer normalization",
        axes="sample",
    ),
    _cause(
        (*_FORWARD, *_RUNNING),
        "statistics over each channel of each sample: that is instance normalization",
        (3, 4),
        axes="instance",
    ),
    _cause(
        (*_FORWARD, *_RUNNING),
        "statistics over the channels (axis 1) at each position, instead of per channel",
        (3, 4),
        axes="feature",
    ),
    _cause((*_FORWARD, *_RUNNING), "one mean and variance for all channels together", axes="all"),
    _cause((*_FORWARD, *_RUNNING), "statistics leave out the last axis (width)", (4,), axes="no width"),
    _cause((*_FORWARD, *_RUNNING), "statistics leave out axis 2 (height)", (4,), axes="no height"),
    _cause(
        ("forward", *BACKWARD),
        "the running statistics are used in training, where the batch's belong",
        in_training="running",
    ),
    _cause(_FORWARD, "gamma and beta are swapped", affine="swapped"),
    _cause(_FORWARD, "gamma is not applied", affine="no gamma"),
    _cause(_FORWARD, "beta is not applied", affine="no beta"),
    _cause(_FORWARD, "neither gamma nor beta is applied", affine="none"),
    _cause(_FORWARD, "beta is added before gamma multiplies", affine="beta first"),
    _cause(_FORWARD, "the scale is 1 + gamma, where it is gamma", affine="1 + gamma"),
    _cause(
        ("dx",),
        "the mean is treated as a constant in the backward pass: dx lacks exactly the term of dL/dmean",
        constants="mean",
    ),
    _cause(
        ("dx",),
        "the variance is treated as a constant in the backward pass: dx lacks exactly the term of dL/dvar",
        constants="var",
    ),
    _cause(
        ("dx",),
        "mean and variance are treated as constants in the backward pass (detached, or taken under "
        "no_grad): dx lacks exactly those two terms",
        constants="both",
    ),
    _cause(("dx",), "dx is not multiplied by gamma", gradient="no gamma in dx"),
    _cause(
        ("dgamma", "dbeta"),
        _AVERAGED,
        gradient="mean over n",
    ),
    _cause(
        ("dgamma", "dbeta"),
        _AVERAGED,
        (3, 4),
        gradient="mean over N",
    ),
    _cause(("dgamma",), "dgamma uses x - mean, without the division by the deviation", gradient="centred"),
    _cause(("dgamma",), "dgamma uses x, where it is the normalized x", gradient="raw"),
    _cause(("dgamma", "dbeta"), "the gradients of gamma and beta are swapped", gradient="swapped"),
    _cause(_RUNNING, "the running statistics are summed up: the old value is not decayed", update="sum"),
    _cause(_RUNNING, "the running statistics are the plain average over all batches", update="cumulative"),
    _cause(_RUNNING, "the running statistics are updated twice a step", update="twice"),
    _cause(
        ("running_var",),
        "running_var is corrected by N/(N-1) of the batch size: n counts the positions too, N*H*W",
        (3, 4),
        kept="by samples",
    ),
    _cause(("running_var",), "running_var is multiplied by n/(n-1) twice", kept="unbiased twice"),
    _cause(("running_var",), "running_var holds the standard deviation, not the variance", kept="deviation"),
    _cause(
        ("running_var",), "running_var holds var + eps (and biased): eps belongs to its use", kept="with eps"
    ),
    _cause(
        ("eval output",), "batch statistics are used in eval, where the running ones belong", in_eval="batch"
    ),
    _cause(
        ("eval output",),
        "running_var is multiplied by n/(n-1) once more in eval",
        in_eval="corrected",
    ),
)


def usual_causes(right: Formula, weight_of: str) -> list[Cause]:
    """The table for these conventions. weight_of: "new" or "old", whose weight momentum was agreed to be."""
    return [*_FIXED, *_stored_causes(right), *_eps_causes(right), *_momentum_causes(right, weight_of)]


def _stored_causes(right: Formula) -> list[Cause]:
    if right.kept == "unbiased":
        words = (
            "running_var is off by n/(n-1): torch stores the unbiased variance, this layer the biased one "
            "(--running-var biased, if it is meant)"
        )
        return [_cause(("running_var",), words, kept="biased")]
    words = (
        "running_var is off by n/(n-1): it is unbiased, as torch has it; --running-var biased was asked for"
    )
    return [_cause(("running_var",), words, kept="unbiased")]


def _eps_causes(right: Formula) -> list[Cause]:
    found = [_cause(_FORWARD, "eps is missing under the root", eps=0.0)] if right.eps else []
    for eps in (1e-8, 1e-6, 1e-5, 1e-3, 1e-2):
        if eps != right.eps:
            words = (
                f"eps is {eps:g}, not {right.eps:g}: written into the layer (--eps {eps:g}, if it is meant)"
            )
            found.append(_cause(_FORWARD, words, eps=eps))
    return found


def _momentum_causes(right: Formula, weight_of: str) -> list[Cause]:
    is_now, agreed = ("old", "new, as in torch") if weight_of == "new" else ("new", "old, as was asked for")
    found = {
        1
        - right.momentum: f"momentum is the weight of the {is_now} value; it should be that of the {agreed} "
        f"(--momentum-convention {is_now}, if it is meant)"
    }
    for value in (0.1, 0.9, 0.01, 0.99):
        found.setdefault(
            value,
            f"the new value's weight is {value:g}, not {right.momentum:g}: it is written into the layer "
            "(--momentum says what it is, if it is meant)",
        )
    found |= {
        1.0: "the running statistics are the last batch's: the old value is dropped",
        0.0: "the running statistics never move",
    }
    return [
        _cause(_RUNNING, words, momentum=value) for value, words in found.items() if value != right.momentum
    ]


def deviation(seen: Tensor, expected: Tensor, axis: int) -> float:
    """The worst |seen - expected| of each channel over the channel's largest |expected|, over all channels.

    axis: the channels'. inf where something is not finite, or the sizes differ.
    """
    if seen.numel() != expected.numel() or not seen.isfinite().all():
        return float("inf")
    seen, expected = seen.double().reshape(expected.shape), expected.double()
    others = [other for other in range(expected.dim()) if other != axis]
    difference, size = (seen - expected).abs(), expected.abs()
    if others:
        difference, size = difference.amax(others), size.amax(others)
    floor = max(1e-6 * float(size.max()), torch.finfo(torch.float64).tiny)
    return float((difference / size.clamp_min(floor)).max())


def explain(
    fits: Callable[[Formula], bool],
    causes: Iterable[Cause],
    check: str,
    rank: int,
    right: Formula,
    known: Sequence[Cause] = (),
) -> tuple[Cause, ...]:
    """The fewest mistakes with which the formula fits; none where no one or two of them do.

    known: mistakes found in an earlier check, which this one may share. Of several that fit equally
    well, the first of the table.
    """
    table = [cause for cause in causes if check in cause.shows_in and rank in cause.ranks]
    starts = [(), tuple(known)] if known else [()]
    for size in (0, 1, 2):
        for start in starts:
            for added in itertools.combinations(table, size):
                chosen = (*start, *added)
                if _compatible(chosen) and chosen and fits(_with(right, chosen)):
                    return chosen
    return ()


def _compatible(causes: Sequence[Cause]) -> bool:
    changed = [name for cause in causes for name, _ in cause.change]
    return len(changed) == len(set(changed))


def _with(formula: Formula, causes: Sequence[Cause]) -> Formula:
    for cause in causes:
        formula = cause.applied(formula)
    return formula
