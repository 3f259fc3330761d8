"""The usual mistakes, each as a change of the formula and in words: the table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bnbench.verification.cause import FORWARD, Cause, cause
from bnbench.verification.cause_table import ACTIVATED, FIXED, RUNNING
from bnbench.verification.formulas import Formula


def ghost_causes(sizes: Iterable[int]) -> list[Cause]:
    """Causes with statistics of parts of the batch: sizes are samples per part or, if negative, numbers of parts."""
    words = "ghost batch normalization: statistics of parts of {} each, not of the whole batch"
    return [
        cause(
            (*FORWARD, *RUNNING),
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
    """Values measured from the layer's output: eps for each form of the root, weights of the new value."""

    eps: Mapping[str, float] = field(default_factory=dict)
    weights: tuple[float, ...] = ()


NOTHING = Measured()


def usual_causes(right: Formula, weight_of: str, measured: Measured = NOTHING) -> list[Cause]:
    """The table for these conventions. weight_of: "new" or "old", whose weight momentum was agreed to be."""
    changing = [*_eps_causes(right, measured), *_momentum_causes(right, weight_of, measured)]
    return [*_stored_causes(right), *FIXED, *changing, *ACTIVATED, *_GHOSTS]


def _stored_causes(right: Formula) -> list[Cause]:
    if right.kept == "unbiased":
        words = (
            "running_var is off by n/(n-1): torch stores the unbiased variance, this layer the biased one "
            "(--running-var biased, if it is meant)"
        )
        return [cause(("running_var",), words, kept="biased")]
    words = (
        "running_var is off by n/(n-1): it is unbiased, as torch has it; --running-var biased was asked for"
    )
    return [cause(("running_var",), words, kept="unbiased")]


def _eps_causes(right: Formula, measured: Measured) -> list[Cause]:
    causes = [cause(FORWARD, "eps is missing under the root", eps=0.0)] if right.eps else []
    for eps in dict.fromkeys(round_off(value) for value in measured.eps.values()):
        if eps > 0 and not math.isclose(eps, right.eps, rel_tol=1e-3):
            words = (
                f"eps is {eps:g}, not {right.eps:g}: written into the layer (--eps {eps:g}, if it is meant)"
            )
            inside = round_off(measured.eps.get("inside", 0.0))
            if eps == inside and math.isclose(eps, 2 * right.eps, rel_tol=1e-3):
                words = f"eps is added twice: the root holds var + {eps:g}, with an eps of {right.eps:g}"
            causes.append(cause(FORWARD, words, eps=eps))
    return causes


def _momentum_causes(right: Formula, weight_of: str, measured: Measured) -> list[Cause]:
    if right.update == "cumulative":
        return _fixed_momentum_causes(measured)
    is_now, agreed = ("old", "new, as in torch") if weight_of == "new" else ("new", "old, as was asked for")
    words_by_weight: dict[float, str] = {}
    if right.momentum != 0.5:
        words_by_weight[round(1 - right.momentum, 12)] = (
            f"momentum is the weight of the {is_now} value; it should be the weight of the {agreed} "
            f"(--momentum-convention {is_now}, if it is meant)"
        )
    for value in measured.weights:
        words_by_weight.setdefault(
            round_off(value),
            f"the new value's weight is {round_off(value):g}, not {right.momentum:g}: it is written into the "
            "layer (set --momentum to it, if it is meant)",
        )
    words_by_weight |= {
        1.0: "the running statistics are the last batch's: the old value is dropped",
        0.0: "the running statistics never move",
    }
    return [
        cause(RUNNING, words, momentum=value)
        for value, words in words_by_weight.items()
        if not math.isclose(value, right.momentum, abs_tol=1e-6)
    ]


def _fixed_momentum_causes(measured: Measured) -> list[Cause]:
    words = (
        "the new value's weight is {:g} at every step: it is 1 / (batches so far) for --momentum none, the "
        "plain average (--momentum {:g}, if it is meant)"
    )
    weights = dict.fromkeys([*map(round_off, measured.weights), 0.0, 1.0])
    return [cause(RUNNING, words.format(value, value), momentum=value, update="average") for value in weights]


def round_off(value: float) -> float:
    """A measured number as it was probably written: to 4 digits, or to 2 where they are as good."""
    if not 0 < abs(value) < math.inf:
        return value
    short = float(f"{value:.2g}")
    return short if math.isclose(short, value, rel_tol=2e-4) else float(f"{value:.4g}")
