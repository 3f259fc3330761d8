"""The steps of a normalizer by its formulas, in float64 with NumPy, held against the registered layer.

Forward: Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithm 1; Ba et al. 2016 (arXiv 1607.06450), equation 4; Zhang &
Sennrich 2019 (arXiv 1910.07467), equation 4. Backward: the chain rule through the statistics, as in section 3 of the
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bnbench.base.errors import BnbenchError
from bnbench.base.worked_steps import Matrix, Updated, WorkedSteps
from bnbench.norms import norms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bnbench.base.registry import Entry

    Array = NDArray[np.float64]

#: Four samples of two features on very different scales; a statistic over features gets the same numbers as columns.
X = ((1.0, 10.0), (3.0, 30.0), (5.0, 20.0), (7.0, 40.0))
DY = ((0.1, -0.2), (0.3, 0.0), (-0.1, 0.4), (0.2, 0.1))
GAMMA, BETA = (2.0, 0.5, 1.0, 1.5), (1.0, 0.0, 0.5, -1.0)
#: The evaluations after so many updates.
UPDATES = (1, 10, 100)
#: The layer may differ from the formulas by rounding alone.
MOST_GAP = 1e-9


@dataclass(frozen=True)
class Steps:
    """What a normalizer computes, as `NormFacts.steps` states it.

    over: the axis of a statistic: samples, or features. centres, divides: see `WorkedSteps`. part: the option that
    says how many samples are taken together, "" for all of them, and `size`, its value in the example. running:
    the variance that the running statistics keep; "" for a layer without them. keeps_old: whether its momentum
    is the weight of the old value.
    """

    over: Literal["samples", "features"] = "samples"
    centres: bool = True
    divides: bool = True
    part: str = ""
    size: int = 0
    running: Literal["unbiased", "biased", ""] = ""
    keeps_old: bool = False


#: Batch norm as torch has it.
BATCH = Steps(running="unbiased")


def with_steps() -> list[str]:
    """The normalizers whose steps can be worked out."""
    return [entry.name for entry in norms.entries() if entry.facts.steps]


def work_out(name: str, options: Mapping[str, Any] | None = None) -> WorkedSteps:
    """The steps of that normalizer on the small batch.

    Raises UnknownNameError for a name that is not registered, and BnbenchError for a normalizer without such
    steps, or one whose layer differs from its formulas.
    """
    entry = norms.get(name)
    steps: Steps | None = entry.facts.steps
    if steps is None:
        raise BnbenchError(
            f"norm {name} has no steps to show on a small batch.",
            "Shown are statistics, normalization and scaling, and not every normalizer consists of these.",
            f"one of {', '.join(with_steps())}.",
        )
    chosen = entry.options()(**{**({steps.part: steps.size} if steps.part else {}), **(options or {})})
    values = {field: getattr(chosen, field) for field in type(chosen).model_fields}
    return _Example(entry, steps, values).worked()


class _Example:
    """The batch and the layer of one normalizer."""

    def __init__(self, entry: Entry, steps: Steps, options: Mapping[str, Any]) -> None:
        self.entry, self.steps, self.options = entry, steps, options
        self.over_samples = steps.over == "samples"
        x, dy = np.array(X), np.array(DY)
        self.x, self.dy = (x, dy) if self.over_samples else (x.T.copy(), dy.T.copy())
        self.layer = self._built()
        self.gamma, self.beta = (
            None if parameter is None else parameter.detach().numpy().copy()
            for parameter in (getattr(self.layer, "weight", None), getattr(self.layer, "bias", None))
        )
        self.eps = float(options.get("eps", 0.0))
        self.part = int(options[steps.part]) if steps.part else len(self.x)

    def _built(self) -> Any:
        """The registered layer in float64, with the gamma and the beta of the example."""
        import torch

        layer = self.entry.factory(self.x.shape[1], 1, **self.options).double()
        with torch.no_grad():
            for parameter, numbers in (
                (getattr(layer, "weight", None), GAMMA),
                (getattr(layer, "bias", None), BETA),
            ):
                if parameter is not None:
                    parameter.copy_(torch.tensor(numbers[: len(parameter)], dtype=torch.float64))
        return layer

    def worked(self) -> WorkedSteps:
        """All steps, and the largest difference from the layer."""
        steps, x = self.steps, self.x
        mean, var, x_hat = self._normalized(x)
        dx = self._backward(x_hat, var)
        updated = self._updated(mean, var) if steps.running else ()
        y = self._scaled(x_hat)
        alone = self._scaled(self._normalized(x[:1])[2])
        gap, refusal = self._gap(y, dx, updated, alone)
        if gap > MOST_GAP:
            raise BnbenchError(
                f"norm {self.entry.name}: its layer differs from its formulas by {gap:.2g}.",
                fix="report this: the page would be wrong.",
            )
        return WorkedSteps(
            norm=self.entry.name,
            over_samples=self.over_samples,
            centres=steps.centres,
            divides=steps.divides,
            part=self.part,
            eps=self.eps,
            x=_matrix(x),
            mean=_matrix(mean),
            var=_matrix(var),
            x_hat=_matrix(x_hat),
            gamma=None if self.gamma is None else tuple(self.gamma.tolist()),
            beta=None if self.beta is None else tuple(self.beta.tolist()),
            y=_matrix(y),
            dy=_matrix(self.dy),
            dx=_matrix(dx),
            sums=(_matrix(self._sum(dx)), _matrix(self._sum(dx * x_hat))),
            updated=updated,
            momentum=self._momentum(),
            biased=steps.running == "biased",
            alone=_matrix(alone),
            refusal=refusal,
            largest_gap=gap,
        )

    def _parts(self, values: Array) -> list[Array]:
        """What statistics are taken over: parts of the batch, or the whole of it."""
        size = self.part if self.over_samples else len(values)
        return [values[start : start + size] for start in range(0, len(values), size)]

    def _mean(self, values: Array) -> Array:
        """(1, features) over samples, (samples, 1) over features."""
        mean: Array = values.mean(0 if self.over_samples else 1, keepdims=True)
        return mean

    def _sum(self, values: Array) -> Array:
        axis = 0 if self.over_samples else 1
        return np.concatenate([part.sum(axis, keepdims=True) for part in self._parts(values)])

    def _normalized(self, x: Array) -> tuple[Array, Array, Array]:
        """μ and σ² of every part, and x̂."""
        means, variances, normalized = [], [], []
        for part in self._parts(x):
            mean = self._mean(part)
            centred = part - mean if self.steps.centres else part
            var = self._mean(centred**2)
            means.append(mean)
            variances.append(var)
            normalized.append(centred / np.sqrt(var + self.eps) if self.steps.divides else centred)
        return np.concatenate(means), np.concatenate(variances), np.concatenate(normalized)

    def _scaled(self, x_hat: Array) -> Array:
        """γ x̂ + β."""
        scaled = x_hat if self.gamma is None else self.gamma * x_hat
        return scaled if self.beta is None else scaled + self.beta

    def _backward(self, x_hat: Array, var: Array) -> Array:
        """dx = 1/√(σ² + ε) (γ dy - mean(γ dy) - x̂ mean(γ dy x̂)), the means over what a statistic is over."""
        scaled = self.dy if self.gamma is None else self.gamma * self.dy
        done = []
        variances = var if self.over_samples else [var]
        for grad, normalized, variance in zip(
            self._parts(scaled), self._parts(x_hat), variances, strict=True
        ):
            out = grad
            if self.steps.centres:
                out = out - self._mean(grad)
            if self.steps.divides:
                out = (out - normalized * self._mean(grad * normalized)) / np.sqrt(variance + self.eps)
            done.append(out)
        return np.concatenate(done)

    def _momentum(self) -> float:
        """The weight of the new value."""
        momentum = float(self.options.get("momentum") or 0.0)
        return 1 - momentum if self.steps.keeps_old else momentum

    def _updated(self, mean: Array, var: Array) -> tuple[Updated, ...]:
        """running = (1 - m) running + m batch, from 0 and 1, once for every part of the batch."""
        kept = var * (self.part / (self.part - 1) if self.steps.running == "unbiased" else 1.0)
        weight, done = self._momentum(), []
        running_mean, running_var = np.zeros(self.x.shape[1]), np.ones(self.x.shape[1])
        for update in range(1, max(UPDATES) + 1):
            for new_mean, new_var in zip(mean, kept, strict=True):
                running_mean = (1 - weight) * running_mean + weight * new_mean
                running_var = (1 - weight) * running_var + weight * new_var
            if update in UPDATES:
                centred = self.x - running_mean if self.steps.centres else self.x
                y = centred / np.sqrt(running_var + self.eps) if self.steps.divides else centred
                numbers = tuple(running_mean.tolist()), tuple(running_var.tolist())
                done.append(Updated(update, *numbers, _matrix(self._scaled(y))))
        return tuple(done)

    def _gap(self, y: Array, dx: Array, updated: tuple[Updated, ...], alone: Array) -> tuple[float, str]:
        """The largest difference from the layer, and what the layer says to a batch of one sample."""
        import torch

        x = torch.tensor(self.x, requires_grad=True)
        layer = self._built().train()
        out = layer(x)
        (grad,) = torch.autograd.grad(out, x, torch.tensor(self.dy))
        pairs = [(out.detach().numpy(), y), (grad.numpy(), dx)]
        for update in range(1, max(UPDATES) + 1) if updated else ():
            layer = layer.train()
            if update > 1:
                layer(x)
            for one in updated:
                if one.updates == update:
                    pairs += [
                        (layer.running_mean.numpy().copy(), np.array(one.mean)),
                        (layer.running_var.numpy().copy(), np.array(one.var)),
                        (layer.eval()(x).detach().numpy(), np.array(one.y)),
                    ]
        try:
            pairs.append((self._built().train()(x[:1].detach()).detach().numpy(), alone))
            refusal = ""
        except (ValueError, BnbenchError) as error:
            refusal = str(error)
        return max(float(np.abs(theirs - ours).max()) for theirs, ours in pairs), refusal


def _matrix(values: Array) -> Matrix:
    return tuple(tuple(row) for row in values.tolist())
