r"""Batch normalization over the batches of all processes of a group, on every device.

With n the number of values of a channel on all processes together, per channel:

    mean = Σ x / n        var = Σ (x - mean)² / n        y = gamma * (x - mean) / sqrt(var + eps) + beta

Two sums go round: first Σ x and n, then those of the centred values, so that data far from zero loses nothing.
Processes may have batches of different sizes, and none at all. torch.nn.SyncBatchNorm refuses tensors on the CPU.

Backward, with g = dL/dy, x̂ = (x - mean) / sqrt(var + eps) and sums over all processes:

    dL/dx = gamma / sqrt(var + eps) * (g - Σ g / n - x̂ Σ (g x̂) / n)

dL/dgamma and dL/dbeta are the sums over a process's own values: whoever trains on several processes adds them up, as
all other gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bnbench.norms.channels import column, reduced_axes

_alone = False


@contextmanager
def alone(wanted: bool = True) -> Iterator[None]:
    """Inside, layers take the statistics of their own process, as where there is one. wanted: False ends it inside."""
    global _alone
    before, _alone = _alone, wanted
    try:
        yield
    finally:
        _alone = before


class _Synchronised(torch.autograd.Function):
    """The normalization over a group; see the file's docstring. Returns y, mean, biased variance (C,) and n."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes, kind = reduced_axes(x), torch.promote_types(x.dtype, torch.float32)
        first = torch.cat([x.sum(axes, dtype=kind).double(), _count(x)])
        dist.all_reduce(first, group=group)
        count = first[-1]
        if count == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {x.size()} "
                "and no value on the other processes"
            )
        mean = (first[:-1] / count.clamp(min=1)).to(kind)
        centred = x - column(mean, x)
        second = torch.stack([centred.sum(axes).double(), centred.square().sum(axes).double()])
        dist.all_reduce(second, group=group)
        residue, square = second / count.clamp(min=1)  # the residue is what the mean lost by rounding
        var = (square - residue.square()).clamp_min_(0)
        inverse = (var + eps).rsqrt().to(kind)
        mean, residue = mean, residue.to(kind)
        normalised = (centred - column(residue, x)) * column(inverse, x)
        y = normalised if weight is None else normalised * column(weight, x)
        y = y if bias is None else y + column(bias, x)
        whole = mean + residue
        ctx.save_for_backward(x, weight, mean, residue, inverse, count)
        ctx.group = group
        ctx.mark_non_differentiable(whole, var, count)
        return y.to(x.dtype), whole, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, residue, inverse, count = ctx.saved_tensors
        axes = reduced_axes(x)
        g = grad.to(mean.dtype)
        normalised = (x - column(mean, x) - column(residue, x)) * column(inverse, x)
        sums = torch.stack([g.sum(axes), (g * normalised).sum(axes)])
        d_bias = sums[0] if ctx.needs_input_grad[2] else None
        d_weight = sums[1] if ctx.needs_input_grad[1] else None
        d_x = None
        if ctx.needs_input_grad[0]:
            together = sums.to(torch.float64, copy=True)
            dist.all_reduce(together, group=ctx.group)
            of_bias, of_weight = (together / count.clamp(min=1)).to(mean.dtype)
            scale = inverse if weight is None else inverse * weight
            d_x = (g - column(of_bias, x) - normalised * column(of_weight, x)) * column(scale, x)
            d_x = d_x.to(x.dtype)
        return d_x, d_weight, d_bias, None, None


def _count(x: Tensor) -> Tensor:
    """(1,): how many values a channel has here."""
    return torch.tensor([x.numel() // x.shape[1]], dtype=torch.float64, device=x.device)


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization over the batches of all processes, on the CPU as well, in place of torch.nn.SyncBatchNorm.

    In training the mean and the variance of a channel are over its values on all processes of the group; the running
    variance is the unbiased one of all of them. In evaluation, in one process, and without an initialised group of
    torch.distributed it does what torch.nn.BatchNorm does.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps, momentum, affine, track_running_stats, device, dtype, bias
        As those of torch.nn.BatchNorm2d.
    process_group : optional
        The processes that share statistics; None: all.

    Raises
    ------
    ValueError
        For an input with fewer than 2 axes or without channels, and for a single value per channel in training, counted
        over all processes.

    Notes
    -----
    Input (N, C, ...) of any number of axes; N may differ between processes, and be 0 on some. float16 and bfloat16 are
    computed in float32; sums between processes are made in float64. In DistributedDataParallel it works on the CPU,
    which torch's own class does not. It has no second derivative where several processes take part.

    Examples
    --------
    >>> import torch
    >>> from bnbench import SyncBatchNorm
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    >>> model = SyncBatchNorm.convert(model)  # before it is wrapped by DistributedDataParallel
    >>> type(model[1]).__name__
    'SyncBatchNorm'
    """

    process_group: Any

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    @classmethod
    def convert(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """The network with every batch norm synchronised, in place; a batch norm alone becomes the layer itself.

        Layers keep their names, parameters, buffers, hooks and mode. Lazy layers have to be called once before.
        """
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and _converts(layer):
                layer.__class__ = cls
                layer.process_group = process_group
        return module

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")
        if input.size(1) == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...)."""
        self._check_input_dim(input)
        tracks = self.training and self.track_running_stats
        share = 0.0 if self.momentum is None else self.momentum
        if tracks and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                share = 1.0 / float(self.num_batches_tracked)
        mean, var = (self.running_mean, self.running_var) if tracks or not self.training else (None, None)
        if not (self.training and self._is_shared()):
            uses_batch = self.training or (self.running_mean is None and self.running_var is None)
            return nn.functional.batch_norm(
                input, mean, var, self.weight, self.bias, uses_batch, share, self.eps
            )
        y: Tensor
        y, of_batch, biased, count = _Synchronised.apply(
            input, self.weight, self.bias, self.eps, self.process_group
        )
        if tracks and count > 0 and mean is not None and var is not None:
            mean.mul_(1 - share).add_(of_batch.to(mean.dtype), alpha=share)
            var.mul_(1 - share).add_((biased * (count / (count - 1))).to(var.dtype), alpha=share)
        return y

    def _is_shared(self) -> bool:
        """Whether the next forward pass takes its statistics over all processes."""
        return (
            not _alone
            and dist.is_available()
            and dist.is_initialized()
            and dist.get_world_size(self.process_group) > 1
        )


def _converts(layer: nn.Module) -> bool:
    """Whether a batch norm can be synchronised: those of torch, and bnbench's own, which are of the same formula."""
    from bnbench.norms.batch_norm import LAYERS

    known = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, *LAYERS.values())
    return type(layer) in known
