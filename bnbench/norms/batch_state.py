"""Functions that batch norms share: update of running statistics and rejection of inputs.

Functions, and no class: a relative of batch norm that inherited from it would be taken for it by torch's
tools, which fuse, convert and re-estimate by class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Statistics(NamedTuple):
    """The running statistics of a layer, (C,) each, and the number of batches so far; None where absent."""

    mean: Tensor | None
    var: Tensor | None
    batches: Tensor | None


def move(now: Statistics, momentum: float | None, mean: Tensor, var: Tensor, count: int) -> None:
    """Move the running statistics, in place, towards a batch's mean and biased variance over `count` values.

    momentum None: the plain average over the batches, this one counted already.
    """
    if now.mean is None or now.var is None:
        return
    if _lacks_replicas(now.mean, mean):
        raise RuntimeError(
            "running_mean is one for all replicas of vmap, and each would move it: give each its own "
            "(torch.func.stack_module_state), or none (torch.func.replace_all_batch_norm_modules_)"
        )
    mean, var = mean.detach().flatten(), var.detach().flatten()
    unbiased = count / (count - 1)
    if momentum is not None:
        now.mean.mul_(1 - momentum).add_(mean, alpha=momentum)
        now.var.mul_(1 - momentum).add_(var, alpha=momentum * unbiased)
    elif now.batches is not None:  # a tensor, not a number: under vmap every replica has its own counter
        share = now.batches.to(mean.dtype).reciprocal()
        now.mean.mul_(1 - share).add_(mean * share)
        now.var.mul_(1 - share).add_(var * (share * unbiased))


def _lacks_replicas(running: Tensor, of_batch: Tensor) -> bool:
    """Whether vmap has the batch's statistics a replica, and the running ones once."""
    is_batched = torch._C._functorch.is_batchedtensor
    return torch._C._are_functorch_transforms_active() and is_batched(of_batch) and not is_batched(running)


def add_state(layer: nn.Module, num_features: int, affine: bool) -> None:
    """Give the layer gamma 1 and beta 0 (None without affine), and running statistics, by torch's names."""
    for name, start in (("weight", 1.0), ("bias", 0.0)):
        vector = nn.Parameter(torch.full((num_features,), start)) if affine else None
        layer.register_parameter(name, vector)
    layer.register_buffer("running_mean", torch.zeros(num_features))
    layer.register_buffer("running_var", torch.ones(num_features))
    layer.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))


def check_input(
    x: Tensor, ranks: tuple[int, ...], eps: float, uses_batch: bool, **vectors: Tensor | None
) -> None:
    """Refuse what torch refuses, with the same errors. vectors: running_mean, running_var, weight, bias."""
    if x.dim() not in ranks:
        wanted = " or ".join(f"{rank}D" for rank in ranks)
        raise ValueError(f"expected {wanted} input (got {x.dim()}D input)")
    if not x.is_floating_point():
        raise NotImplementedError(f"\"batch_norm\" not implemented for '{_scalar_type(x)}'")
    if uses_batch and x.numel() == x.shape[1] > 0:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    _check_eps(eps, uses_batch)
    _check_statistics(uses_batch, vectors["running_mean"], vectors["running_var"])
    for name, vector in vectors.items():
        if vector is not None:
            _check_vector(x, name, vector)


def _check_eps(eps: float, uses_batch: bool) -> None:
    if uses_batch and eps <= 0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if eps < 0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")


def _check_statistics(uses_batch: bool, mean: Tensor | None, var: Tensor | None) -> None:
    if (mean is None) != (var is None):
        if uses_batch:
            raise ValueError("running_mean and running_var must either both be None or neither be None")
        missing = "running_mean" if mean is None else "running_var"
        raise RuntimeError(f"{missing} must be defined in evaluation mode")


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
