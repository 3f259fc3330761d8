"""Small things that layers over channels share: x is (N, C, ...), a vector is (C,)."""

from __future__ import annotations

import torch
from torch import Tensor


def reduced_axes(x: Tensor) -> tuple[int, ...]:
    """Every axis but the channels': (0,) for (N, C), (0, 2, 3) for (N, C, H, W)."""
    return (0, *range(2, x.dim()))


def column(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (C, 1, ...), so that it lies along the channels of x (N, C, ...)."""
    return vector.reshape(-1, *[1] * (x.dim() - 2))


def scale_and_shift(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Gamma * x + beta, channel by channel; either may be None."""
    x = x if weight is None else x * column(weight, x)
    return x if bias is None else x + column(bias, x)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32, for statistics that half precision can't hold."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def laid_out(y: Tensor, x: Tensor) -> Tensor:
    """y, in the layout in memory that torch's kernels give the output for x: so that what views it works here, too.

    Contiguous or channels last, as x is; contiguous where x is neither, a transposed x say.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if x.is_contiguous() or torch._C._are_functorch_transforms_active():
        return y
    if x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()]):
        return y.contiguous(memory_format=formats[x.dim()])
    return y.contiguous()
