"""Sums over the valid positions of an input, so that no padding has a part in them, whatever it holds.

A mask is (N, ...) bool over samples and positions, True where valid. Sums of float32 and of half inputs accumulate in
float64: longer padding changes the order of a sum, and rounded to float32 the sum is the same. A masked sum and no
boolean gather: shapes don't depend on the data, so replicas can be stacked and graphs recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bnbench.norms.channels import reduced_axes


@dataclass(frozen=True)
class Valid:
    """The valid positions of x (N, C, ...).

    keep: (N, 1, ...) bool, None where every position is valid. count: how many are valid, exactly: a Python number
    without a mask, else a float64 tensor.
    """

    axes: tuple[int, ...]
    keep: Tensor | None
    count: Tensor | int

    def only(self, x: Tensor) -> Tensor:
        """X with zeros at padding, through which no gradient flows."""
        return x if self.keep is None else torch.where(self.keep, x, 0.0)

    def mean(self, x: Tensor) -> Tensor:
        """Over the valid positions, (1, C, 1, ...) in the dtype of sums. x: zero at padding. 0 where none is valid."""
        total = x.sum(self.axes, keepdim=True, dtype=dtype_of_sums(x))
        return total / (self.count.clamp(min=1) if isinstance(self.count, Tensor) else self.count)


def valid_positions(x: Tensor, mask: Tensor | None) -> Valid:
    """Those of x (N, C, ...). Raises ValueError for a mask of another shape or dtype."""
    axes = reduced_axes(x)
    if mask is None:
        return Valid(axes, None, x.numel() // x.shape[1])
    wanted = (x.shape[0], *x.shape[2:])
    if mask.dtype != torch.bool or tuple(mask.shape) != wanted:
        raise ValueError(
            f"the mask should be bool of shape {wanted}, True at valid positions; "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    return Valid(axes, mask.unsqueeze(1), mask.sum(dtype=dtype_of_sums(x)))


def spread(vector: Tensor, x: Tensor) -> Tensor:
    """(1, C, 1, ...) over the positions of x, in its dtype; its gradient is summed as `Valid.mean` sums."""
    return vector.to(dtype_of_sums(x)).expand(x.shape).to(x.dtype)


def dtype_of_sums(x: Tensor) -> torch.dtype:
    """float64; float32 on Apple's GPUs, which have no other."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def number(count: Tensor | int) -> int | None:
    """The count as a Python number; None where it can't be read, in a recorded graph or inside vmap."""
    if isinstance(count, int):
        return count
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return None
    return int(count)
