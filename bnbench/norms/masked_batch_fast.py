"""Masked batch normalization with a backward pass by hand: `FastBatchNorm` with sums over valid positions.

Sums accumulate in float64 and are rounded once; everything else is in the dtype of x, position by position. So neither
the number of padded positions nor what they hold changes a bit at a valid one, forward or backward. (A sum in float64
may round differently where its length changes; rounded to float32 it is the same but for one case in about 10^8.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from bnbench.norms.masked import dtype_of_sums

Dims = tuple[int, ...]


class MaskedBatchNormFunction(Function):
    r"""y = gamma * x̂ + beta at valid positions, 0 at padding; over n valid positions.

    x (N, C, ...); weight, bias (C,) or None; keep (N, 1, ...) bool or None; count: n, a float64 tensor, at least 1.
    Returns y, and per channel (1, C, 1, ...): mean and invstd in the dtype of x; mean and biased variance in float64.
    The derivation is that of `FastBatchNorm`, with g = 0 at padding and n for its count.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, keep: Tensor | None, count: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        """Normalize."""
        dims = _dims(x)
        if keep is not None:
            x = torch.where(keep, x, 0)
        whole = _total(x, dims) / count
        mean = whole.to(x.dtype)
        d = _kept(x - mean, keep)
        residue = _total(d, dims) / count  # what the mean lost by rounding
        var = (_total(d * d, dims) / count - residue * residue).clamp(min=0)
        invstd = torch.rsqrt(var + eps)
        scale = invstd if weight is None else invstd * _spread(weight, dims)
        y = (d - residue.to(x.dtype)) * scale.to(x.dtype)
        y = y if bias is None else y + _spread(bias, dims)
        return _kept(y, keep), mean, invstd.to(x.dtype), mean.to(whole.dtype) + residue, var

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x, gamma and two numbers per channel."""
        x, weight, _, keep, count, _ = inputs
        _, mean, invstd, *others = output
        ctx.mark_non_differentiable(*others)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, invstd, keep, count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, bias, in ops that can be differentiated again."""
        x, weight, mean, invstd, keep, count = ctx.saved_tensors
        dy, d_mean, d_invstd = grads[:3]
        dims = _dims(x)
        if keep is not None:
            x = torch.where(keep, x, 0)
        dy = torch.zeros_like(x) if dy is None else _kept(dy, keep)
        d = _kept(x - mean, keep)
        residue = (_total(d.detach(), dims) / count).to(x.dtype)
        g1 = _total(dy, dims)
        g2 = _total(dy * d, dims) - residue * g1
        d_weight = (invstd * g2).to(x.dtype).reshape(-1) if weight is not None else None
        a = invstd if weight is None else invstd * _spread(weight, dims)
        b = a * g2 if d_invstd is None else a * g2 + invstd * d_invstd
        b = b * invstd * invstd
        c = (a * g1 if d_mean is None else a * g1 - d_mean) - b * residue
        d_x = a * dy - d * (b / count).to(x.dtype) - (c / count).to(x.dtype)
        d_bias = g1.to(x.dtype).reshape(-1) if ctx.needs_input_grad[2] else None
        return _kept(d_x, keep), d_weight, d_bias, None, None, None


def _dims(x: Tensor) -> Dims:
    return (0, *range(2, x.dim()))


def _total(x: Tensor, dims: Dims) -> Tensor:
    return x.sum(dims, keepdim=True, dtype=dtype_of_sums(x))


def _kept(x: Tensor, keep: Tensor | None) -> Tensor:
    """Zeros at padding. x: finite there, so that a product will do, which is faster than a choice."""
    return x if keep is None else x * keep.to(x.dtype)


def _spread(vector: Tensor, dims: Dims) -> Tensor:
    """(C,) -> (1, C, 1, ...)."""
    return vector.reshape(1, -1, *[1] * (len(dims) - 1))
