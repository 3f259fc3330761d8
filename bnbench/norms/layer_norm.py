"""Layer normalization over the channels of each position, which torch has for channels on the last axis alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms.channels import at_least_float32, scale_and_shift


class ChannelLayerNorm(nn.Module):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, mean and biased var over the channels of a position.

    Shapes: (N, C, ...) to the same, in the same memory format; half inputs are computed in float32.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...), every position of every sample for itself."""
        x = at_least_float32(input)
        centred = x - x.mean(1, keepdim=True)
        centred = centred - centred.mean(1, keepdim=True)  # what the mean lost by rounding
        y = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + self.eps)
        return scale_and_shift(y, self.weight, self.bias).to(input.dtype)

    def extra_repr(self) -> str:
        """The arguments, in the words of torch.nn.LayerNorm."""
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"
