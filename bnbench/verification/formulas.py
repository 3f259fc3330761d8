"""Batch normalization with one thing done otherwise: what each usual mistake would give, in float64.

`Formula()` with its defaults is the right one; a mistake changes a field. Gradients come from autograd
over the changed formula, so that a mistake in the forward pass is carried into the backward pass.
Shapes as in reference.py, as torch tensors of float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

#: Which axes the statistics are taken over, by the number of axes of x.
_AXES: dict[str, Callable[[int], tuple[int, ...]]] = {
    "channel": lambda rank: (0, *range(2, rank)),
    "position": lambda rank: (0,),
    "sample": lambda rank: tuple(range(1, rank)),
    "instance": lambda rank: tuple(range(2, rank)),
    "feature": lambda rank: (1,),
    "all": lambda rank: tuple(range(rank)),
    "not the last": lambda rank: (0, *range(2, rank - 1)),
    "not axis 2": lambda rank: (0, *range(3, rank)),
    "not axis 3": lambda rank: (0, 2, *range(4, rank)),
    "last": lambda rank: tuple(range(rank - 1)),
}

#: Activations that may have slipped into a layer.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky relu (0.01)": nn.functional.leaky_relu,
    "leaky relu (0.1)": lambda y: nn.functional.leaky_relu(y, 0.1),
    "leaky relu (0.2)": lambda y: nn.functional.leaky_relu(y, 0.2),
    "relu6": nn.functional.relu6,
    "elu": nn.functional.elu,
    "selu": nn.functional.selu,
    "gelu": nn.functional.gelu,
    "gelu (tanh)": lambda y: nn.functional.gelu(y, approximate="tanh"),
    "silu": nn.functional.silu,
    "softplus": nn.functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": nn.functional.hardswish,
    "softsign": nn.functional.softsign,
    "abs": torch.abs,
}

#: Transformations of gamma before the multiplication.
SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "1 + gamma": lambda gamma: 1 + gamma,
    "exp(gamma)": torch.exp,
    "softplus(gamma)": nn.functional.softplus,
    "sigmoid(gamma)": torch.sigmoid,
    "gamma squared": torch.square,
    "|gamma|": torch.abs,
    "1 / gamma": torch.reciprocal,
    "the mean of all gammas": lambda gamma: gamma.mean().expand_as(gamma),
    "the first channel's gamma, for all channels": lambda gamma: gamma[:1].expand_as(gamma),
}


@dataclass(frozen=True)
class Formula:
    """One way to do it. eps, momentum (weight of the new value) and kept are as agreed; the rest is right."""

    eps: float
    momentum: float
    kept: Literal[
        "unbiased", "biased", "by samples", "unbiased twice", "deviation", "biased deviation", "with eps",
        "inverse deviation",
    ]  # fmt: skip
    axes: str = "channel"
    divisor: Literal["n", "n - 1"] = "n"
    root: Literal["inside", "outside", "variance", "rsqrt", "clamped", "none"] = "inside"
    parts: int = 0  # ghost batches of so many samples; negative: so many ghost batches
    activation: str = ""
    centred: bool = True
    affine: Literal["right", "swapped", "no gamma", "no beta", "none", "beta first", "minus beta"] = "right"
    scale: str = ""  # a name in SCALES: what multiplies in place of gamma
    constants: Literal["", "mean", "var", "both"] = ""
    gradient: Literal[
        "right", "no gamma in dx", "mean over n", "mean over N", "centred", "raw", "swapped"
    ] = "right"
    in_training: Literal["batch", "running"] = "batch"
    update: Literal["average", "sum", "cumulative", "twice", "first replaces", "debiased"] = "average"
    in_eval: Literal[
        "running", "batch", "batch mean", "batch variance", "corrected", "debiased", "deviation", "inverse"
    ] = "running"


def forward(x: Tensor, gamma: Tensor, beta: Tensor, f: Formula) -> Tensor:
    """The formula's output in training, without its gradients."""
    mean, var = _used_in_training(x, f)
    return _scaled(x, mean, var, gamma, beta, f)


def _used_in_training(x: Tensor, f: Formula) -> tuple[Tensor, Tensor]:
    mean, var = _statistics(x, f)
    if f.in_training == "running":  # as they are at the start
        return torch.zeros_like(mean), torch.ones_like(var)
    return mean, var


def training(x: Tensor, gamma: Tensor, beta: Tensor, dy: Tensor, f: Formula) -> dict[str, Tensor]:
    """The formula's results for one batch: forward, dx, dgamma, dbeta."""
    leaves = [part.detach().clone().requires_grad_() for part in (x, gamma, beta)]
    mean, var = _used_in_training(leaves[0], f)
    used_mean = mean.detach() if f.constants in ("mean", "both") else mean
    used_var = var.detach() if f.constants in ("var", "both") else var
    y = _scaled(leaves[0], used_mean, used_var, leaves[1], leaves[2], f)
    dx, dgamma, dbeta = torch.autograd.grad(y, leaves, dy, allow_unused=True, materialize_grads=True)
    if f.gradient == "no gamma in dx":
        dx = dx / _column(gamma, x)
    elif f.gradient != "right":
        dgamma, dbeta = _other_gradients(x, dy, mean.detach(), dgamma, dbeta, f)
    return {"forward": y.detach(), "dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def running(batches: Sequence[Tensor], mean: Tensor, var: Tensor, f: Formula) -> dict[str, Tensor]:
    """The running statistics after every batch: running_mean, running_var, each (batches, channels)."""
    mean, var = _column(mean, batches[0]), _column(var, batches[0])
    start, means, variances = (mean, var), [], []
    for number, x in enumerate(batches, start=1):
        for part in split(x, f):
            batch_mean, batch_var = _statistics(part, replace(f, divisor="n", parts=0))
            batch_var = _kept(batch_var, part, f)
            for _ in range(2 if f.update == "twice" else 1):
                old, new = _weights(number, f)
                mean, var = old * mean + new * batch_mean, old * var + new * batch_var
        stored = (mean, var)
        if f.update == "debiased":  # the start is taken out too
            left = (1 - f.momentum) ** number
            stored = (mean - left * start[0]) / (1 - left), (var - left * start[1]) / (1 - left)
        means.append(stored[0].flatten())
        variances.append(stored[1].flatten())
    return {"running_mean": torch.stack(means), "running_var": torch.stack(variances)}


def _weights(number: int, f: Formula) -> tuple[float, float]:
    """The weights of the old and the new value in the update with this number."""
    if f.update == "cumulative" or (f.update == "first replaces" and number == 1):
        return 1 - 1 / number, 1 / number
    return (1.0 if f.update == "sum" else 1 - f.momentum), f.momentum


def split(x: Tensor, f: Formula) -> Sequence[Tensor]:
    """The parts of a batch that are normalized apart."""
    if f.parts < 0:
        return x.chunk(-f.parts)
    return torch.split(x, f.parts) if f.parts else (x,)


def evaluation(x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor, f: Formula) -> Tensor:
    """The output in eval, with the running statistics given."""
    mean, var = _column(mean, x), _column(var, x)
    if f.in_eval.startswith("batch"):
        of_batch = _statistics(x, f)
        mean = mean if f.in_eval == "batch variance" else of_batch[0]
        var = var if f.in_eval == "batch mean" else of_batch[1]
    if f.in_eval == "corrected":
        count = x.numel() // x.shape[1]
        var = var * count / (count - 1)
    if f.in_eval == "debiased":  # one batch has been seen
        mean, var = mean / f.momentum, var / f.momentum
    if f.in_eval in ("deviation", "inverse"):  # what is stored is taken as it is
        var, f = (var**2 if f.in_eval == "deviation" else var**-2), replace(f, eps=0.0, root="inside")
    return _scaled(x, mean, var, gamma, beta, f)


def _statistics(x: Tensor, f: Formula) -> tuple[Tensor, Tensor]:
    """Mean and variance over the formula's axes, kept as 1; a mistake in the divisor is in the variance."""
    if f.parts:
        pieces = split(x, f)
        each = [_statistics(piece, replace(f, parts=0)) for piece in pieces]
        mean, var = (
            torch.cat(
                [
                    one[i].expand(len(piece), *one[i].shape[1:])
                    for one, piece in zip(each, pieces, strict=True)
                ]
            )
            for i in (0, 1)
        )
        return mean, var
    axes = _AXES[f.axes](x.dim())
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    count = x.numel() // mean.numel()
    return mean, var * count / max(count - 1, 1) if f.divisor == "n - 1" else var


def _scaled(x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor, f: Formula) -> Tensor:
    centred = x - mean if f.centred else x
    if f.root == "inside":
        y = centred / torch.sqrt(var + f.eps)
    elif f.root == "outside":
        y = centred / (torch.sqrt(var) + f.eps)
    elif f.root == "rsqrt":
        y = centred / torch.rsqrt(var + f.eps)
    elif f.root == "clamped":
        y = centred / torch.sqrt(var.clamp_min(f.eps))
    else:
        y = centred / (var + f.eps) if f.root == "variance" else centred
    gamma, beta = _column(SCALES[f.scale](gamma) if f.scale else gamma, x), _column(beta, x)
    y = {
        "right": lambda: gamma * y + beta,
        "swapped": lambda: beta * y + gamma,
        "no gamma": lambda: y + beta,
        "no beta": lambda: gamma * y,
        "none": lambda: y,
        "beta first": lambda: gamma * (y + beta),
        "minus beta": lambda: gamma * y - beta,
    }[f.affine]()
    return ACTIVATIONS[f.activation](y) if f.activation else y


def _other_gradients(
    x: Tensor, dy: Tensor, mean: Tensor, dgamma: Tensor, dbeta: Tensor, f: Formula
) -> tuple[Tensor, Tensor]:
    axes = _AXES["channel"](x.dim())
    if f.gradient in ("mean over n", "mean over N"):
        count = len(x) if f.gradient == "mean over N" else x.numel() // x.shape[1]
        return dgamma / count, dbeta / count
    if f.gradient == "swapped":
        return dbeta, dgamma
    return (dy * (x - mean if f.gradient == "centred" else x)).sum(axes), dbeta


def _kept(var: Tensor, x: Tensor, f: Formula) -> Tensor:
    """The variance that goes into running_var, from the biased one."""
    count = x.numel() // var.numel()
    bessel = count / max(count - 1, 1)
    return {
        "biased": var,
        "unbiased": var * bessel,
        "by samples": var * len(x) / max(len(x) - 1, 1),
        "unbiased twice": var * bessel**2,
        "deviation": torch.sqrt(var * bessel),
        "biased deviation": torch.sqrt(var),
        "with eps": var + f.eps,
        "inverse deviation": torch.rsqrt(var + f.eps),
    }[f.kept]


def _column(vector: Tensor, x: Tensor) -> Tensor:
    return vector.reshape(-1, *[1] * (x.dim() - 2))
