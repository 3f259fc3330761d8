"""eps and momentum as a layer really uses them: both enter in closed form, so that they can be solved for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Spreads of the probe's channels: from far below any eps to far above.
_SPREADS = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2)


def eps_probe(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """A float32 batch with mean 0 and tiny variances, in which eps is most of the root."""
    noise = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
    axes = (0, *range(2, len(shape)))
    noise = noise - noise.mean(axes, keepdim=True)
    noise = noise / noise.square().mean(axes, keepdim=True).sqrt()
    spread = torch.tensor(_SPREADS, dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 2))
    return (noise * spread).float()


def solve_eps(x: Tensor, y: Tensor, gamma: Tensor) -> dict[str, float]:
    """Form of the root -> eps, for the forms that fit every channel of the probe x with output y.

    inside: sqrt(var + eps). outside: sqrt(var) + eps. variance: var + eps, without a root.
    """
    x, y = x.double(), y.double()
    axes = (0, *range(2, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    var = centred.square().mean(axes)
    slope = (y * centred).mean(axes) / var
    divisor = (gamma / slope).abs()
    forms: dict[str, tuple[Tensor, Callable[[float], Tensor]]] = {
        "inside": (divisor**2 - var, lambda eps: torch.sqrt(var + eps)),
        "outside": (divisor - var.sqrt(), lambda eps: var.sqrt() + eps),
        "variance": (divisor - var, lambda eps: var + eps),
    }
    eps_by_form = {}
    for form, (candidates, predicted) in forms.items():
        eps = float(candidates[0])
        if math.isfinite(eps) and eps > -1e-13:
            eps = 0.0 if eps < 1e-14 else eps
            if float(((predicted(eps) - divisor) / divisor).abs().max()) < 1e-3:
                eps_by_form[form] = eps
    return eps_by_form


def solve_weights(means: Sequence[Tensor], batches: Sequence[Tensor]) -> tuple[float, ...]:
    """Weights of the new value that the running means (start, after each batch) can be explained by.

    batches: the mean of each batch. The steady update first; then what a sum, a double update and a debiased
    average would have had.
    """
    weights = [_weight(old, new, mean) for old, new, mean in zip(means, means[1:], batches, strict=False)]
    steady = weights[-1]
    weights_tried: list[float] = []
    if steady is not None:
        weights_tried.append(steady)
        if 0 < steady < 1:
            weights_tried.append(1 - math.sqrt(1 - steady))
    added = _ratio(means[-1] - means[-2], batches[len(means) - 2])
    if added is not None:
        weights_tried.append(added)
    second = weights[1] if len(weights) > 1 else None
    if weights[0] is not None and second is not None and abs(weights[0] - 1) < 1e-3 and 0.5 < second < 1:
        weights_tried.append(2 - 1 / second)
    return tuple(dict.fromkeys(value for value in weights_tried if 0 <= value <= 1))


def steady_weight(means: Sequence[Tensor], batches: Sequence[Tensor]) -> float | None:
    """The weight of the new value, where it is the same at every step; else None."""
    weights = [_weight(old, new, mean) for old, new, mean in zip(means, means[1:], batches, strict=False)]
    if any(weight is None for weight in weights):
        return None
    first = weights[0]
    same = all(abs(weight - first) < 1e-3 * max(abs(first), 1e-3) for weight in weights)  # type: ignore
    return first if same else None


def is_plain_average(means: Sequence[Tensor], batches: Sequence[Tensor]) -> bool:
    """Whether the weights of the new value are 1, 1/2, 1/3, ...: torch's momentum=None."""
    weights = [_weight(old, new, mean) for old, new, mean in zip(means, means[1:], batches, strict=False)]
    return all(
        weight is not None and abs(weight - 1 / number) < 1e-3
        for number, weight in enumerate(weights, start=1)
    )


def _weight(old: Tensor, new: Tensor, batch: Tensor) -> float | None:
    return _ratio(new - old, batch - old)


def _ratio(a: Tensor, b: Tensor) -> float | None:
    """The constant ratio of a to b; None if it is not constant."""
    if a.numel() != b.numel() or not a.isfinite().all() or float(b.abs().max()) < 1e-9:
        return None
    ratio = float((a * b).sum() / (b * b).sum())
    return ratio if float((a - ratio * b).abs().max()) < 1e-4 * float(b.abs().max()) else None
