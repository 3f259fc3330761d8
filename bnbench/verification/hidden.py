"""Running statistics that are not among a layer's tensors: what eval gives shows them nevertheless.

With running statistics the layer is affine in eval, y = a x + b per channel, and the two numbers say what
mean and variance it uses: var = (gamma / a)² - eps, mean = (beta - b) / a.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bnbench.verification.fit import deviation
from bnbench.verification.outcome import Wrong

if TYPE_CHECKING:
    from bnbench.verification.subject import Subject


def uses_batch_in_eval(subject: Subject) -> bool:
    """Whether eval gives what training gives, after some training: no running statistics are used."""
    try:
        layer, _ = subject.trained()
        x = subject.data("no statistics?")
        y = subject.output(layer.eval(), x).detach()
        same = subject.output(layer.train(), x).detach()
    except Exception:
        return True
    return deviation(y, same.double(), 1) < 1e-4


def statistics(subject: Subject, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) that the layer uses in eval. Raises Wrong where it is not affine there."""
    was_training = layer.training
    x = subject.data("hidden statistics", eps=False)
    y = subject.output(layer.eval(), x).detach().double()
    other = subject.data("hidden statistics, again", eps=False)
    again = subject.output(layer, other).detach().double()
    layer.train(was_training)
    a, b = affine(x.double(), y)
    if deviation(again, subject.column(a) * other.double() + subject.column(b), 1) > 1e-3:
        raise Wrong("the output in eval is not affine in x: it uses neither fixed statistics nor the batch's")
    a = torch.where(a == 0, torch.nan, a)
    return (subject.beta - b) / a, (subject.gamma / a) ** 2 - subject.rules.eps


def affine(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset (C,) of the straight line of y over x in each channel."""
    axes = (0, *range(2, x.dim()))
    mean_x, mean_y = x.mean(axes, keepdim=True), y.mean(axes, keepdim=True)
    a = ((x - mean_x) * (y - mean_y)).mean(axes) / (x - mean_x).square().mean(axes)
    return a, mean_y.flatten() - a * mean_x.flatten()
