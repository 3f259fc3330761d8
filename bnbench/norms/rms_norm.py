"""RMS normalization (Zhang & Sennrich 2019, arXiv 1910.07467): a scale without a mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.channels import at_least_float32, scale_and_shift
from bnbench.norms.options import Affine, Axes, Eps
from bnbench.norms.steps import Steps


class ChannelRMSNorm(nn.Module):
    """y = gamma * x / sqrt(mean(x²) + eps), gamma per channel.

    The mean goes over all of a sample (what GroupNorm(1, C) is to LayerNorm(C): the same statistics, one
    gamma a channel) or, with axes "channels", over the channels of each position.
    Shapes: (N, C, ...) to the same; half inputs are computed in float32.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True, axes: Axes = "all") -> None:
        super().__init__()
        self.num_features, self.eps, self.axes = num_features, eps, axes
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...), every sample for itself."""
        x = at_least_float32(input)
        axes = (1,) if self.axes == "channels" else tuple(range(1, x.dim()))
        y = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + self.eps)
        return scale_and_shift(y, self.weight, None).to(input.dtype)

    def extra_repr(self) -> str:
        """The arguments, in the words of torch.nn.RMSNorm."""
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}, axes={self.axes}"


@norms.register("rms", absorbs_bias=False, steps=Steps("features", centres=False))
def rms(
    num_features: int, dim: int, *, axes: Axes = "all", eps: Eps = 1e-5, affine: Affine = True
) -> nn.Module:
    """RMS normalization: every sample divided by its root mean square, gamma per channel.

    Zhang & Sennrich 2019. No mean is subtracted and there is no beta. (N, C): over C,
    torch.nn.RMSNorm(C). (N, C, H, W): over C, H and W; with axes: channels over C at each position.
    Raises BnbenchError where one value is divided by itself: the output would be its sign.
    """
    if num_features == 1 and (dim == 1 or axes == "channels"):
        raise BnbenchError(
            "norm rms over 1 channel: divided by itself, one value is always 1 or -1.",
            fix="give the layer before it more than 1 unit, or use norm: batch.",
        )
    if dim == 1:
        return nn.RMSNorm(num_features, eps, elementwise_affine=affine)
    return ChannelRMSNorm(num_features, eps, affine, axes)
