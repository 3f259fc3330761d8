"""The loss and its gradient along a step (Santurkar et al. 2018, arXiv 1805.11604, section 3.1 and figure 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row
from bnbench.probes.trial import NETWORK, Trial, relative

#: Lengths of the steps, in learning rates.
LENGTHS = (0.5, 1.0, 2.0, 4.0)


@probes.register("landscape", costly=True, passes=lambda layers: 4 + 2 * len(LENGTHS))
def landscape(inside: Inside) -> Iterator[Row]:
    """The range of the loss and the change of the gradient at 1/2, 1, 2 and 4 times the learning rate.

    Along the gradient, as in the paper: at W - f lr g, g = dL/dW of all trainable parameters, lr the base learning
    rate of this step, f in (1/2, 1, 2, 4), with the same batch as g. Of the network as a whole:

        loss_along       the loss at W - f lr g (unit: f; 0 for the start)
        loss_range       largest - smallest of the losses at the four f
        gradient_change  largest ‖g - g(W - f lr g)‖ / ‖g‖ over the four f
        smoothness       largest ‖g - g(W - f lr g)‖ / ‖f lr g‖: the effective β-smoothness

    and with "update_" before the name, the same along the study's own next update, W + f (W(t+1) - W(t)): with
    momentum, Adam, weight decay or clipping that is another direction or another length.
    """
    trial = Trial(inside)
    loss, gradient = trial.gradient(trial.batch)
    names = trial.start
    sizes = [value.numel() for value in names.values()]
    downhill = {
        name: -inside.lr * part.view_as(names[name])
        for name, part in zip(names, torch.split(gradient, sizes), strict=True)
    }
    after = trial.updated()
    update = {name: after[name] - value for name, value in names.items()}
    for prefix, direction in (("", downhill), ("update_", update)):
        yield from _along(trial, prefix, direction, loss, gradient)


def _along(
    trial: Trial, prefix: str, direction: Mapping[str, Tensor], loss: float, gradient: Tensor
) -> Iterator[Row]:
    """The rows of one direction, whose length is one learning rate."""
    losses, changes, slopes = [], [], []
    length = math.sqrt(sum(float(part.double().square().sum()) for part in direction.values()))
    yield Row(NETWORK, f"{prefix}loss_along", loss, "0")
    for factor in LENGTHS:
        trial.put({name: trial.start[name] + factor * part for name, part in direction.items()})
        there, gradient_there = trial.gradient(trial.batch)
        change = gradient_there - gradient
        losses.append(there)
        changes.append(relative(change, gradient))
        size = float(torch.linalg.vector_norm(change.double()))
        slopes.append(size / (factor * length) if length else math.nan)
        yield Row(NETWORK, f"{prefix}loss_along", there, f"{factor:g}")
    trial.put(trial.start)
    yield Row(NETWORK, f"{prefix}loss_range", largest(losses) + largest([-loss for loss in losses]))
    yield Row(NETWORK, f"{prefix}gradient_change", largest(changes))
    yield Row(NETWORK, f"{prefix}smoothness", largest(slopes))


def largest(values: list[float]) -> float:
    """The largest; NaN where one is not finite."""
    return max(values) if all(map(math.isfinite, values)) else math.nan
