"""RMS normalization (Zhang & Sennrich 2019, arXiv 1910.07467): a scale without a mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.options import Eps


class RMSNorm2d(nn.Module):
    """y = gamma * x / sqrt(mean(x²) + eps), the mean over (C, H, W) of each sample, gamma per channel.

    What GroupNorm(1, C) is to LayerNorm(C): the same statistics, one gamma a channel, for images.
    Shapes: (N, C, H, W) to the same; half inputs are computed in float32.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, H, W), every sample for itself."""
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        y = x * torch.rsqrt((x * x).mean((1, 2, 3), keepdim=True) + self.eps)
        y = y if self.weight is None else y * self.weight.reshape(-1, 1, 1)
        return y.to(input.dtype)

    def extra_repr(self) -> str:
        """The arguments, in the words of torch.nn.RMSNorm."""
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"


@norms.register("rms", absorbs_bias=False, needs_batch=False)
def rms(num_features: int, dim: int, *, eps: Eps = 1e-5, affine: bool = True) -> nn.Module:
    """RMS normalization: every sample divided by its root mean square, gamma per channel.

    Zhang & Sennrich 2019. No mean is subtracted and there is no beta. (N, C): over C,
    torch.nn.RMSNorm(C). (N, C, H, W): over C, H and W.
    """
    if dim == 1:
        return nn.RMSNorm(num_features, eps, elementwise_affine=affine)
    return RMSNorm2d(num_features, eps, affine)
