"""Batch normalization, the fast reading: the backward by hand, so that little is kept.

Source: Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", ICML 2015 (arXiv 1502.03167), Algorithm 1 and the derivatives of section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.autograd.function import FunctionCtx

Dims = tuple[int, ...]


class FastBatchNorm(Function):
    r"""y = gamma * x̂ + beta with x̂ = (x - mean) * invstd, over `count` values per channel.

    Shapes: x (N, C, ...); weight (gamma), bias (beta) (C,) or None; `dims` are the axes summed over,
    all but the channels'; the other three outputs have one value per channel and 1 in each of `dims`.
    Returns y (dtype of x), mean, invstd, var (float32 for half inputs).

    **Forward.** float32 can't hold the mean of data around 1e6 to better than 0.03, so it is kept as
    a sum, x̄ = mean + residue: d = x - mean is exact for data far from zero, residue = mean(d), and

        var = mean(d²) - residue²        invstd = 1 / sqrt(var + eps)      x̂ = (d - residue) * invstd

    **Backward.** Write g for dL/dy, n for `count`, and let dm, ds be the gradients that reach the
    outputs mean and invstd themselves. A change of x_j moves x̄ by 1/n and invstd by
    -invstd³ (x_j - x̄) / n, hence with g1 = Σ g and g2 = Σ g (x - x̄):

        dL/dbeta  = g1
        dL/dgamma = invstd * g2
        dL/dx     = a * g  +  b * (x - x̄)  +  (dm - a * g1) / n
                    a = gamma * invstd        b = -invstd³ * (gamma * g2 + ds) / n

    With dm = ds = 0 these are the paper's. **Kept:** x, gamma, and two vectors, mean and
    invstd: every other quantity above is sums over x and g of these. Not x̂ nor d, each as large as x,
    which one subtraction brings back, bit for bit; nor the residue, which one more mean of d does.

    **Twice differentiable** because mean and invstd are *outputs*: what the backward does with them
    is recorded as a use of these outputs, whose gradients come back here as dm and ds. (The residue
    is rounding, of mathematical value 0, and has no derivative.)
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: Dims, count: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalize; plain tensors come in, whatever transforms are active outside."""
        mean = x.mean(dims, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        d = x - mean
        residue = d.mean(dims, keepdim=True)
        var = torch.addcmul((d * d).mean(dims, keepdim=True), residue, residue, value=-1)
        var = var.clamp_min_(0)  # ten million equal numbers can round to less
        invstd = (var + eps).rsqrt_()
        scale = invstd if weight is None else invstd * _spread(weight, dims)
        shift = residue * scale if bias is None else residue * scale - _spread(bias, dims)
        y = d.mul_(scale).sub_(shift)  # in the memory of d
        return y.to(x.dtype), mean, invstd, var

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x, gamma and two numbers per channel."""
        x, weight, _, dims, count, _ = inputs
        _, mean, invstd, var = output
        ctx.mark_non_differentiable(var)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, invstd)
        ctx.dims, ctx.count = dims, count  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, bias."""
        dy, d_mean, d_invstd, _ = grads
        wanted = ctx.needs_input_grad[:3]
        return (
            *gradients(ctx.saved_tensors, ctx.dims, ctx.count, wanted, (dy, d_mean, d_invstd)),
            None,
            None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, tuple[int, ...]]:
        """Replicas: one more leading axis that is not summed over; no copies, the same kernels."""
        x, weight, bias = (
            _to_front(t, axis, info.batch_size) for t, axis in zip(args[:3], in_dims[:3], strict=True)
        )
        dims, count, eps = args[3:]
        shifted = tuple(dim + 1 for dim in dims)
        return FastBatchNorm.apply(x, weight, bias, shifted, count, eps), (0, 0, 0, 0)


def gradients(
    saved: tuple[Any, ...],
    dims: Dims,
    count: int,
    wanted: Sequence[bool],
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, weight and bias that are wanted, in ops that can be differentiated again.

    saved: x, weight, mean and invstd of the forward. grads: those of its outputs y, mean and invstd.
    """
    x, weight, mean, invstd = saved
    dy, d_mean, d_invstd = grads
    dy = torch.zeros_like(x) if dy is None else dy
    d = x - mean
    residue = d.detach().mean(dims, keepdim=True)
    g1 = dy.sum(dims, keepdim=True, dtype=mean.dtype)
    g2 = (d * dy).sum(dims, keepdim=True) - residue * g1
    d_weight = (invstd * g2).squeeze(dims) if wanted[1] else None
    d_bias = g1.squeeze(dims) if wanted[2] else None
    d_x = None
    if wanted[0]:
        a = invstd if weight is None else invstd * _spread(weight, dims)
        b = a * g2 if d_invstd is None else a * g2 + invstd * d_invstd
        b = b * invstd * invstd  # times -1/n: see `value` below
        c = a * g1 if d_mean is None else a * g1 - d_mean
        c = torch.addcmul(c, b, residue, value=-1) * (-1 / count)
        d_x = _addcmul(torch.addcmul(c, d, b, value=-1 / count), dy, a).to(x.dtype)
    return d_x, d_weight, d_bias


class _Eager(Function):
    """`FastBatchNorm` where no torch.func transform is active: a forward that takes ctx costs
    40 us less (torch 2.15, 2-core CPU) than one with setup_context, whose arguments torch binds by
    `inspect.signature`."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = FastBatchNorm.forward(*inputs)
        FastBatchNorm.setup_context(ctx, inputs, output)
        return output

    backward = staticmethod(FastBatchNorm.backward)


def fast_batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: Dims, count: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize x (N, C, ...): see `FastBatchNorm`. Returns y and, shaped (1, C, 1...), mean and biased var."""
    function = FastBatchNorm if _transformed() else _Eager
    y, mean, _, var = function.apply(x, weight, bias, dims, count, eps)
    return y, mean, var


def forward_mode() -> bool:
    """Whether derivatives are carried forward (jvp, forward_ad): the backward by hand has none, autograd has."""
    return forward_ad._current_level >= 0


def _transformed() -> bool:
    """Whether vmap, grad, ... of torch.func are active; torch's own Function.apply asks the same."""
    return torch._C._are_functorch_transforms_active()


def _addcmul(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Total + a * b; in place, but for vmap, which has no rule for addcmul_."""
    return torch.addcmul(total, a, b) if _transformed() else total.addcmul_(a, b)


def _spread(vector: Tensor, dims: Dims) -> Tensor:
    """(C,) -> (1, C, 1, 1): an axis of length 1 at each of `dims`; (S, C) -> (S, 1, C, 1, 1) likewise."""
    for dim in dims:
        vector = vector.unsqueeze(dim)
    return vector


def _to_front(tensor: Tensor | None, axis: int | None, size: int) -> Tensor | None:
    """The vmapped axis first; a tensor without one is repeated by a view."""
    if tensor is None:
        return None
    return tensor.expand(size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
