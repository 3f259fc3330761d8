"""Batch normalization in float64 NumPy, written from the paper's equations: what a layer is held against.

Source: Ioffe & Szegedy 2015 (arXiv 1502.03167): Algorithm 1 (training), Algorithm 2 (inference) and
the derivatives of section 3. Neither torch.nn nor bnbench's own layer has a part in it. The paper
leaves the running statistics open (it averages over batches); there, torch's conventions hold:
running = (1 - momentum) * running + momentum * batch, and the variance that is kept is unbiased.

Shapes: x, y, dy, dx (N, C, ...); everything per channel (C,).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Gradients(NamedTuple):
    """The derivatives of the loss by x, gamma and beta."""

    x: Array
    gamma: Array
    beta: Array


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance per channel (Algorithm 1, lines 1 and 2)."""
    mean = x.mean(_axes(x))
    return mean, ((x - _column(mean, x)) ** 2).mean(_axes(x))


def forward(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Training (Algorithm 1): normalized with the batch's own statistics."""
    return inference(x, *statistics(x), gamma, beta, eps)


def inference(x: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Inference (Algorithm 2, line 11): normalized with given statistics."""
    normalized = (x - _column(mean, x)) / np.sqrt(_column(var, x) + eps)
    return _column(gamma, x) * normalized + _column(beta, x)


def backward(x: Array, gamma: Array, eps: float, dy: Array) -> Gradients:
    """The derivatives of section 3, one equation a line, in the paper's order."""
    axes, count = _axes(x), x.size // x.shape[1]
    mean, var = statistics(x)
    centred, spread = x - _column(mean, x), _column(var, x) + eps
    d_normalized = dy * _column(gamma, x)
    d_var = (d_normalized * centred * -0.5 * spread**-1.5).sum(axes)
    d_mean = (-d_normalized / np.sqrt(spread)).sum(axes) + d_var * (-2 * centred).mean(axes)
    dx = d_normalized / np.sqrt(spread) + _column(d_var, x) * 2 * centred / count + _column(d_mean, x) / count
    return Gradients(dx, (dy * centred / np.sqrt(spread)).sum(axes), dy.sum(axes))


def moved(
    running_mean: Array, running_var: Array, x: Array, momentum: float, *, unbiased: bool = True
) -> tuple[Array, Array]:
    """The running statistics after one batch. momentum: the weight of the new value (torch)."""
    mean, var = statistics(x)
    count = x.size // x.shape[1]
    kept = var * count / (count - 1) if unbiased else var
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * kept


def _axes(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _column(vector: Array, x: Array) -> Array:
    return vector.reshape(-1, *[1] * (x.ndim - 2))
