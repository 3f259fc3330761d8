r"""Batch normalization, written from the formula (Ioffe & Szegedy 2015, arXiv 1502.03167).

Training (Algorithm 1), per channel over the n = N * H * W values of the batch:

    mean = Σ x / n        var = Σ (x - mean)² / n          the biased variance
    y = gamma * (x - mean) / sqrt(var + eps) + beta

and the statistics for later are moved towards the batch's, with the *unbiased* variance (Algorithm 2):

    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - 1)

Inference puts running_mean and running_var in the place of mean and var. `momentum` is the weight of
the *new* value; None stands for 1 / (batches so far): the plain average over all batches.

There are two readings of the same mathematics: `plain` below, for people, whose backward autograd
finds, and `fast` from the file next door, whose backward is derived by hand.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm_fast import fast_batch_norm
from bnbench.norms.channels import at_least_float32, column, reduced_axes, scale_and_shift
from bnbench.norms.options import Eps, Momentum

Reading = Literal["plain", "fast"]


def plain(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize x (N, C, ...) with its own statistics. Returns y, mean, biased var.

    y: shape and dtype of x. mean, var: (1, C, 1, ...).
    """
    axes = reduced_axes(x)
    values = at_least_float32(x)
    mean = values.mean(axes, keepdim=True)
    centred = values - mean
    centred = centred - centred.mean(axes, keepdim=True)  # what the mean lost by rounding
    var = (centred**2).mean(axes, keepdim=True)
    y = scale_and_shift(centred / torch.sqrt(var + eps), weight, bias)
    return y.to(x.dtype), mean, var


def fast(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """What `plain` does, keeping only x and two numbers per channel for the backward."""
    return fast_batch_norm(x, weight, bias, reduced_axes(x), x.numel() // x.shape[1], eps)


def inference(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize x (N, C, ...) with given statistics (C,). Returns y, of the shape and dtype of x."""
    mean, var = at_least_float32(mean), at_least_float32(var)
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    centred = x - column(mean, x)
    y = (
        centred * column(scale, x)
        if bias is None
        else torch.addcmul(column(bias, x), centred, column(scale, x))
    )
    return y.to(x.dtype)


class _BatchNorm(nn.Module):
    """What `BatchNorm1d` and `BatchNorm2d` share: all but the shapes that they accept."""

    _version = 2  # of the state dict: 2 brought num_batches_tracked
    _ranks: tuple[int, ...]
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        reading: Reading = "fast",
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.reading: Reading = reading

        def vector(wanted: bool) -> Tensor | None:
            return torch.empty(num_features, device=device, dtype=dtype) if wanted else None

        def parameter(wanted: bool) -> nn.Parameter | None:
            data = vector(wanted)
            return None if data is None else nn.Parameter(data)

        counter = torch.tensor(0, dtype=torch.long, device=device) if track_running_stats else None
        self.register_parameter("weight", parameter(affine))
        self.register_parameter("bias", parameter(affine and bias))
        self.register_buffer("running_mean", vector(track_running_stats))
        self.register_buffer("running_var", vector(track_running_stats))
        self.register_buffer("num_batches_tracked", counter)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.fill_(value)

    def reset_parameters(self) -> None:
        """gamma 1, beta 0, and the running statistics as at the start."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """The arguments, in torch's words."""
        told = (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
        return told if self.reading == "fast" else f"{told}, reading={self.reading}"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...); the running statistics move in training mode, with or without grad.

        Raises ValueError for a wrong number of axes, for one value per channel in training and for
        an eps that can't work; RuntimeError for a wrong number of channels and for mixed dtypes;
        NotImplementedError for numbers that are not real. A refused input changes nothing.
        """
        weight, bias, mean, var = self.weight, self.bias, self.running_mean, self.running_var
        self._check(input, running_mean=mean, running_var=var, weight=weight, bias=bias)
        if not self.training and mean is not None and var is not None:
            return inference(input, mean, var, weight, bias, self.eps)
        if input.numel() == 0:  # an empty batch has no statistics: it is counted, and moves nothing
            self._count()
            return scale_and_shift(input.clone(), weight, bias).to(input.dtype)
        read = fast if self.reading == "fast" else plain
        y, batch_mean, batch_var = read(input, weight, bias, self.eps)
        if self.training and self.track_running_stats:
            self._track(batch_mean, batch_var, input.numel() // input.shape[1])
        return y

    def _count(self) -> None:
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards a batch's mean and biased variance over `count` values."""
        self._count()
        running_mean, running_var, batches = self.running_mean, self.running_var, self.num_batches_tracked
        if running_mean is None or running_var is None:
            return
        mean, var = mean.detach().flatten(), var.detach().flatten()
        unbiased = count / (count - 1)
        if self.momentum is not None:
            keep, new = 1 - self.momentum, self.momentum
            running_mean.mul_(keep).add_(mean, alpha=new)
            running_var.mul_(keep).add_(var, alpha=new * unbiased)
        elif batches is not None:  # a tensor, not a number: under vmap every replica has its own counter
            share = batches.to(mean.dtype).reciprocal()
            running_mean.mul_(1 - share).add_(mean * share)
            running_var.mul_(1 - share).add_(var * (share * unbiased))

    def _check(self, x: Tensor, **vectors: Tensor | None) -> None:
        """Refuse what torch refuses, with the same errors."""
        if x.dim() not in self._ranks:
            wanted = " or ".join(f"{rank}D" for rank in self._ranks)
            raise ValueError(f"expected {wanted} input (got {x.dim()}D input)")
        if not x.is_floating_point():
            raise NotImplementedError(f"\"batch_norm\" not implemented for '{_scalar_type(x)}'")
        uses_batch = self.training or (vectors["running_mean"] is None and vectors["running_var"] is None)
        self._check_statistics(x, uses_batch, vectors["running_mean"], vectors["running_var"])
        for name, vector in vectors.items():
            if vector is not None:
                _check_vector(x, name, vector)

    def _check_statistics(self, x: Tensor, uses_batch: bool, mean: Tensor | None, var: Tensor | None) -> None:
        if uses_batch and x.numel() == x.shape[1] > 0:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {x.shape}"
            )
        if uses_batch and self.eps <= 0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {self.eps}")
        if self.eps < 0:
            raise ValueError(f"batch_norm eps must be non-negative, but got {self.eps}")
        if (mean is None) != (var is None):
            if uses_batch:
                raise ValueError("running_mean and running_var must either both be None or neither be None")
            missing = "running_mean" if mean is None else "running_var"
            raise RuntimeError(f"{missing} must be defined in evaluation mode")

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Checkpoints before version 2 have no counter: ours stays what it is."""
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.num_batches_tracked is not None:
            state_dict.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class BatchNorm1d(_BatchNorm):
    """Batch normalization over (N, C) or (N, C, L), in place of torch.nn.BatchNorm1d.

    Same arguments, attributes, state dict and errors; `reading` picks "fast" or "plain".
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalization over (N, C, H, W), in place of torch.nn.BatchNorm2d; see `BatchNorm1d`."""

    _ranks = (4,)


@norms.register("batch_custom", absorbs_bias=True, needs_batch=True)
def batch_custom(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: Momentum | None = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
    reading: Reading = "fast",
) -> nn.Module:
    """Batch normalization, bnbench's own layer, written from the formula (readings: plain, fast).

    Ioffe & Szegedy 2015. Normalizes with the biased variance, stores the unbiased one; running =
    (1 - momentum) * running + momentum * batch, momentum None: the average over all batches.
    """
    layer = BatchNorm1d if dim == 1 else BatchNorm2d
    return layer(num_features, eps, momentum, affine, track_running_stats, reading=reading)


def _scalar_type(x: Tensor) -> str:
    """The name of a dtype as torch's errors spell it: Long, ComplexFloat."""
    return torch.empty(0, dtype=x.dtype).type().removeprefix("torch.").removesuffix("Tensor")


def _check_vector(x: Tensor, name: str, vector: Tensor) -> None:
    """A vector per channel must have C numbers, in the dtype of x or, for a half x, in float32."""
    if vector.numel() != x.shape[1]:
        raise RuntimeError(f"{name} should contain {x.shape[1]} elements not {vector.numel()}")
    if vector.dtype not in (x.dtype, torch.promote_types(x.dtype, torch.float32)):
        raise RuntimeError(
            f"mixed dtype: the input is {x.dtype}, {name} is {vector.dtype}; "
            "convert one of them (only half inputs may meet float32 parameters)"
        )
