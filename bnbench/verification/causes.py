"""The usual mistakes, each as a change of the formula and in words: the table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bnbench.verification.formulas import ACTIVATIONS, SCALES, Formula

ALL_RANKS = (2, 3, 4, 5)
_FORWARD = ("forward", "dx", "dgamma", "dbeta", "eval output")
BACKWARD = ("dx", "dgamma", "dbeta")
_RUNNING = ("running_mean", "running_var")


LAST_AXIS = (
    "features are expected on the last axis: statistics go over every axis but that one, and torch's channels "
    "are axis 1"
)
_AVERAGED = "the gradients of gamma and beta are averaged over the batch: they are sums"


@dataclass(frozen=True)
class Cause:
    """A mistake: what it is in words, what it changes in the formula, and in which checks it can show."""

    words: str
    change: tuple[tuple[str, Any], ...]
    shows_in: tuple[str, ...]
    ranks: tuple[int, ...] = ALL_RANKS
    pairs: bool = True  # whether it is tried together with another mistake

    def applied(self, formula: Formula) -> Formula:
        """The formula with this mistake."""
        return replace(formula, **dict(self.change))

    def __str__(self) -> str:
        return self.words


def _cause(
    shows_in: tuple[str, ...],
    words: str,
    ranks: tuple[int, ...] = ALL_RANKS,
    pairs: bool = True,
    **change: Any,
) -> Cause:
    return Cause(words, tuple(change.items()), shows_in, ranks, pairs)


_FIXED = (
    _cause(
        ("forward", "dx", "dgamma"),
        "normalized with the unbiased variance in training: the batch's variance divides by n "
        "(unbiased=False); n - 1 is for running_var alone",
        divisor="n - 1",
    ),
    _cause(_FORWARD, "eps outside the root: sqrt(var) + eps, where it is sqrt(var + eps)", root="outside"),
    _cause(_FORWARD, "divided by var + eps: the square root is missing", root="variance"),
    _cause(
        _FORWARD,
        "divided by rsqrt(var + eps), which is 1 / sqrt(var + eps) already: multiply by it",
        root="rsqrt",
    ),
    _cause(
        _FORWARD,
        "the variance is raised to eps where it is less, sqrt(max(var, eps)): it is sqrt(var + eps)",
        root="clamped",
    ),
    _cause(_FORWARD, "not divided by the standard deviation", root="none"),
    _cause(_FORWARD, "the mean is not subtracted", centred=False),
    _cause(
        (*_FORWARD, *_RUNNING),
        "statistics over the wrong axes: over the batch alone, per position; they go over every axis but "
        "the channels', (0, 2) of 3-D, (0, 2, 3) of 4-D and (0, 2, 3, 4) of 5-D inputs",
        (3, 4, 5),
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
        (3, 4, 5),
        axes="instance",
    ),
    _cause(
        (*_FORWARD, *_RUNNING),
        "statistics over the channels (axis 1) at each position, instead of per channel",
        (3, 4, 5),
        axes="feature",
    ),
    _cause((*_FORWARD, *_RUNNING), "one mean and variance for all channels together", axes="all"),
    _cause((*_FORWARD, *_RUNNING), "statistics leave out the last axis (width)", (4, 5), axes="not the last"),
    _cause((*_FORWARD, *_RUNNING), "statistics leave out axis 2", (4, 5), axes="not axis 2"),
    _cause((*_FORWARD, *_RUNNING), "statistics leave out axis 3 (height)", (5,), axes="not axis 3"),
    _cause((*_FORWARD, *_RUNNING), LAST_AXIS, (3, 4, 5), axes="last"),
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
    _cause(_FORWARD, "beta is subtracted, where it is added", affine="minus beta"),
    *(
        _cause(_FORWARD, f"the scale is {name}, where it is gamma", pairs=name == "1 + gamma", scale=name)
        for name in SCALES
    ),
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
        (3, 4, 5),
        gradient="mean over N",
    ),
    _cause(("dgamma",), "dgamma uses x - mean, without the division by the deviation", gradient="centred"),
    _cause(("dgamma",), "dgamma uses x, where it is the normalized x", gradient="raw"),
    _cause(("dgamma", "dbeta"), "the gradients of gamma and beta are swapped", gradient="swapped"),
    _cause(_RUNNING, "the running statistics are summed up: the old value is not decayed", update="sum"),
    _cause(
        _RUNNING,
        "the running statistics are the plain average over all batches (--momentum none, if it is meant)",
        update="cumulative",
    ),
    _cause(
        _RUNNING,
        "the first batch's statistics replace the initial ones: the first batch has momentum's weight, too",
        update="first replaces",
    ),
    _cause(
        _RUNNING,
        "the running statistics are debiased, as Adam's averages are (divided by 1 - (1 - momentum)^t): batch "
        "norm's start at 0 and 1, and are not corrected",
        update="debiased",
    ),
    _cause(_RUNNING, "the running statistics are updated twice a step", update="twice"),
    _cause(
        ("running_var",),
        "running_var is corrected by N/(N-1) of the batch size: n counts the positions too, N*H*W",
        (3, 4, 5),
        kept="by samples",
    ),
    _cause(("running_var",), "running_var is multiplied by n/(n-1) twice", kept="unbiased twice"),
    _cause(("running_var",), "running_var holds the standard deviation, not the variance", kept="deviation"),
    _cause(
        ("running_var",),
        "running_var holds the standard deviation (biased), not the variance",
        kept="biased deviation",
    ),
    _cause(
        ("running_var",), "running_var holds 1 / sqrt(var + eps), not the variance", kept="inverse deviation"
    ),
    _cause(
        ("running_var",), "running_var holds var + eps (and biased): eps belongs to its use", kept="with eps"
    ),
    _cause(
        ("eval output",), "batch statistics are used in eval, where the running ones belong", in_eval="batch"
    ),
    _cause(
        ("eval output",),
        "the batch's mean is used in eval, where the running mean belongs",
        in_eval="batch mean",
    ),
    _cause(
        ("eval output",),
        "the batch's variance is used in eval, where the running variance belongs",
        in_eval="batch variance",
    ),
    _cause(
        ("eval output",),
        "running_var is multiplied by n/(n-1) once more in eval",
        in_eval="corrected",
    ),
    _cause(
        ("eval output",),
        "in eval the running statistics are debiased, as Adam's averages are (divided by 1 - (1 - momentum)^t)",
        in_eval="debiased",
    ),
    _cause(
        ("eval output",),
        "in eval running_var is taken for the standard deviation: sqrt(running_var + eps) is missing",
        in_eval="deviation",
    ),
    _cause(
        ("eval output",),
        "in eval running_var is taken for 1 / sqrt(var + eps): sqrt(running_var + eps) is missing",
        in_eval="inverse",
    ),
)

_ACTIVATED = tuple(
    _cause(
        _FORWARD,
        f"an activation is inside the layer ({name}): batch norm ends with gamma * x + beta",
        pairs=False,
        activation=name,
    )
    for name in ACTIVATIONS
)


def ghost_causes(sizes: Iterable[int]) -> list[Cause]:
    """Statistics of parts of the batch: of so many samples, or (negative) so many parts."""
    words = "ghost batch normalization: statistics of parts of {} each, not of the whole batch"
    return [
        _cause(
            (*_FORWARD, *_RUNNING),
            words.format(f"{size} samples")
            if size > 0
            else f"ghost batch normalization: statistics of {-size} parts of the batch, not of the whole batch",
            pairs=False,
            parts=size,
        )
        for size in sizes
    ]


_GHOSTS = tuple(ghost_causes((2, 3, 4, 5, 6, -2, -3, -4)))


@dataclass(frozen=True)
class Measured:
    """What the layer's numbers say of it: eps by each form of the root, weights of the new value."""

    eps: Mapping[str, float] = field(default_factory=dict)
    weights: tuple[float, ...] = ()


NOTHING = Measured()


def usual_causes(right: Formula, weight_of: str, measured: Measured = NOTHING) -> list[Cause]:
    """The table for these conventions. weight_of: "new" or "old", whose weight momentum was agreed to be."""
    changing = [*_eps_causes(right, measured), *_momentum_causes(right, weight_of, measured)]
    return [*_stored_causes(right), *_FIXED, *changing, *_ACTIVATED, *_GHOSTS]


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


def _eps_causes(right: Formula, measured: Measured) -> list[Cause]:
    found = [_cause(_FORWARD, "eps is missing under the root", eps=0.0)] if right.eps else []
    for eps in dict.fromkeys(round_off(value) for value in measured.eps.values()):
        if eps > 0 and not math.isclose(eps, right.eps, rel_tol=1e-3):
            words = (
                f"eps is {eps:g}, not {right.eps:g}: written into the layer (--eps {eps:g}, if it is meant)"
            )
            inside = round_off(measured.eps.get("inside", 0.0))
            if eps == inside and math.isclose(eps, 2 * right.eps, rel_tol=1e-3):
                words = f"eps is added twice: the root holds var + {eps:g}, with an eps of {right.eps:g}"
            found.append(_cause(_FORWARD, words, eps=eps))
    return found


def _momentum_causes(right: Formula, weight_of: str, measured: Measured) -> list[Cause]:
    if right.update == "cumulative":
        return _fixed_momentum_causes(measured)
    is_now, agreed = ("old", "new, as in torch") if weight_of == "new" else ("new", "old, as was asked for")
    found: dict[float, str] = {}
    if right.momentum != 0.5:
        found[round(1 - right.momentum, 12)] = (
            f"momentum is the weight of the {is_now} value; it should be that of the {agreed} "
            f"(--momentum-convention {is_now}, if it is meant)"
        )
    for value in measured.weights:
        found.setdefault(
            round_off(value),
            f"the new value's weight is {round_off(value):g}, not {right.momentum:g}: it is written into the "
            "layer (--momentum says what it is, if it is meant)",
        )
    found |= {
        1.0: "the running statistics are the last batch's: the old value is dropped",
        0.0: "the running statistics never move",
    }
    return [
        _cause(_RUNNING, words, momentum=value)
        for value, words in found.items()
        if not math.isclose(value, right.momentum, abs_tol=1e-6)
    ]


def _fixed_momentum_causes(measured: Measured) -> list[Cause]:
    words = (
        "the new value's weight is {:g} at every step: it is 1 / (batches so far) for --momentum none, the "
        "plain average (--momentum {:g}, if it is meant)"
    )
    weights = dict.fromkeys([*map(round_off, measured.weights), 0.0, 1.0])
    return [
        _cause(_RUNNING, words.format(value, value), momentum=value, update="average") for value in weights
    ]


def round_off(value: float) -> float:
    """A measured number as it was probably written: to 4 digits, or to 2 where they are as good."""
    if not 0 < abs(value) < math.inf:
        return value
    short = float(f"{value:.2g}")
    return short if math.isclose(short, value, rel_tol=2e-4) else float(f"{value:.4g}")
