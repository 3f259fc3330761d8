"""The eps and momentum that a layer is held to: from an option, its constructor, an attribute or a measurement."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.seeding import generator
from bnbench.verification import solve
from bnbench.verification.causes import Measured, round_off
from bnbench.verification.rules import Rules
from bnbench.verification.subject import Subject
from bnbench.verification.target import Target
from bnbench.verification.wishes import Wishes

#: Given to a layer that takes them: not the usual values, so that a value written into it shows.
EPS, MOMENTUM = 1e-3, 0.3
#: A value written into a layer that takes no other is right within these bounds, and reported.
_LEAST_EPS, _MOST_EPS, _MOST_WEIGHT = 1e-12, 1e-2, 0.5


def passed_values(wishes: Wishes) -> dict[str, float | None]:
    """eps and momentum for the constructor of a layer that takes them."""
    momentum = MOMENTUM if wishes.momentum is None else wishes.momentum
    return {
        "eps": EPS if wishes.eps is None else wishes.eps,
        "momentum": None if momentum == "none" else momentum,
    }


@dataclass(frozen=True)
class Convention:
    """The rules, and where eps and momentum come from."""

    rules: Rules
    eps_from: str
    momentum_from: str

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dumps."""
        rules = self.rules
        return {
            "eps": rules.eps,
            "eps_from": self.eps_from,
            "momentum": rules.momentum,
            "momentum_from": self.momentum_from,
            "momentum_is_weight_of": rules.weight_of,
            "running_var": rules.kept,
        }

    def notes(self) -> list[str]:
        """One sentence for each measured value."""
        sentences = []
        if self.eps_from == "measured":
            sentences.append(f"eps is written in: {self.rules.eps:g} (measured; no argument sets another).")
        if self.momentum_from == "measured":
            momentum = (
                "none, the plain average over all batches"
                if self.rules.momentum is None
                else f"{self.rules.momentum:g}, the weight of the {self.rules.weight_of} value"
            )
            sentences.append(f"momentum is written in: {momentum} (measured; no argument sets another).")
        return sentences


def settle(target: Target, wishes: Wishes, subject: Subject, layer: nn.Module) -> Convention:
    """For a subject with provisional rules: the rules that hold, with what its numbers say."""
    eps_by_form, means, batches = _measure(subject)
    weights = solve.solve_weights(means, batches) if len(means) > 2 else ()
    measured = Measured(eps_by_form, weights)
    options = target.options()
    eps, eps_from = _eps(wishes, options, layer, eps_by_form)
    momentum, momentum_from = _momentum(wishes, options, layer, means, batches)
    rules = Rules(eps, momentum, wishes.weight_of, wishes.kept, measured)
    return Convention(rules, eps_from, momentum_from)


def _measure(subject: Subject) -> tuple[dict[str, float], list[Tensor], list[Tensor]]:
    """eps by form of the root; the running means at the start and after three batches; the batches' means."""
    eps: dict[str, float] = {}
    with contextlib.suppress(Exception, SystemExit):
        x = solve.eps_probe(subject.shape, generator(0, "verify", "eps"))
        layer = subject.layer()
        if "beta" in subject.parts:  # outputs around 0 have the most digits
            subject.parts["beta"].write(layer, torch.zeros_like(subject.parts["beta"].vector(layer)))
        eps = solve.solve_eps(x, subject.output(layer, x).detach(), subject.gamma)
    means, batches = [], []
    with contextlib.suppress(Exception, SystemExit):
        if subject.statistics_are == "absent":
            return eps, [], []
        layer = subject.layer()
        means.append(subject.statistics(layer)[0])
        for step in range(3):
            x = subject.data("step", step)
            subject.output(layer, x)
            means.append(subject.statistics(layer)[0])
            batches.append(x.double().mean((0, *range(2, x.dim()))))
        return eps, means, batches
    return eps, [], []


def provisional(target: Target, wishes: Wishes) -> Rules:
    """The rules before the measurement: eps scales the test data."""
    given = passed_values(wishes)
    eps = given["eps"] if wishes.eps is not None or "eps" in target.options() else 1e-5
    assert eps is not None
    return Rules(eps, 0.1, wishes.weight_of, wishes.kept)


def _eps(
    wishes: Wishes, options: Mapping[str, str], layer: nn.Module, measured: Mapping[str, float]
) -> tuple[float, str]:
    if wishes.eps is not None:
        return wishes.eps, "--eps"
    if "eps" in options:
        return EPS, "argument"
    attribute = _number_attribute(layer, "eps", "epsilon", "variance_epsilon")
    if attribute is not None:
        return attribute, "attribute"
    inside = measured.get("inside")
    if inside is not None and _LEAST_EPS <= inside <= _MOST_EPS:
        return round_off(inside), "measured"
    return 1e-5, "assumed"


def _momentum(
    wishes: Wishes,
    options: Mapping[str, str],
    layer: nn.Module,
    means: list[Tensor],
    batches: list[Tensor],
) -> tuple[float | None, str]:
    if wishes.momentum is not None:
        return (None if wishes.momentum == "none" else wishes.momentum), "--momentum"
    if "momentum" in options:
        return MOMENTUM, "argument"
    attribute = _number_attribute(layer, "momentum")
    if attribute is not None:
        return attribute, "attribute"
    steady = solve.steady_weight(means, batches) if len(means) > 2 else None
    if steady is not None and 0 < steady <= _MOST_WEIGHT:
        return round_off(steady if wishes.weight_of == "new" else 1 - steady), "measured"
    if len(means) > 2 and solve.is_plain_average(means, batches):
        return None, "measured"
    return (0.1 if wishes.weight_of == "new" else 0.9), "assumed"


def _number_attribute(layer: nn.Module, *names: str) -> float | None:
    """The first finite number among the named attributes; a tensor with one element counts as a number."""
    for name in names:
        value: Any = None
        with contextlib.suppress(Exception):  # its own __getattr__ may raise anything
            value = getattr(layer, name, None)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        with contextlib.suppress(Exception):  # neither 10**400 nor a complex number converts to float
            if is_number or (isinstance(value, Tensor) and value.numel() == 1):
                number = float(value)
                if math.isfinite(number):
                    return number
    return None
