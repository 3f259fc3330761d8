"""Batch normalization with another norm than the Euclidean one (Hoffer et al. 2018, arXiv 1803.01814)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm import inference
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import at_least_float32, reduced_axes, scale_and_shift
from bnbench.norms.options import Affine, Eps, MomentumOrAverage

Power = Annotated[float, Field(ge=1, le=1000, description="1: mean absolute deviation; 2: batch norm itself")]


class LpBatchNorm(BatchNormVariant):
    """Batch norm by the L^p deviation; (N, C, ...) of 2 to 5 axes. See `lp`. running_var is a scale squared."""

    def __init__(
        self,
        num_features: int,
        p: float = 1.0,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.p, self.constant = p, gaussian_constant(p)
        if p != 2:
            self.other_statistics = f"its running_var is the square of an L^{p:g} deviation"

    def normalize(self, x: Tensor) -> Tensor:
        """With the batch's mean and L^p deviation."""
        axes, values = reduced_axes(x), at_least_float32(x)
        centred = values - values.mean(axes, keepdim=True)
        rest = centred.mean(axes, keepdim=True)  # what the mean lost by rounding
        centred = centred - rest
        squared = self._squared(centred, axes)
        self.track(x, (values - centred).mean(axes), squared)
        y = centred * torch.rsqrt(squared + self.eps)
        return scale_and_shift(y, self.weight, self.bias).to(x.dtype)

    def _squared(self, centred: Tensor, axes: tuple[int, ...]) -> Tensor:
        """The square of constant * (mean |centred|^p)^(1/p), with 1 in each of the axes."""
        if self.p == 2:
            return centred.square().mean(axes, keepdim=True)
        # in units of the largest deviation, so that no power overflows: a factor without influence on the gradient
        unit = centred.detach().abs().amax(axes, keepdim=True)
        unit = torch.where(unit > 0, unit, 1.0)
        power = (centred / unit).abs().pow(self.p).mean(axes, keepdim=True)
        spread = torch.where(power > 0, power, 1.0).pow(2 / self.p)  # a root has no derivative at 0
        return (self.constant * unit).square() * torch.where(power > 0, spread, 0.0)

    def infer(self, x: Tensor) -> Tensor:
        """As batch norm: with the running statistics."""
        return inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The arguments of batch norm, and p."""
        return f"{super().extra_repr()}, p={self.p:g}"


def gaussian_constant(p: float) -> float:
    """Its product with (E |x - E x|^p)^(1/p) is the standard deviation of a normal x.

    E |z|^p = 2^(p/2) Γ((p + 1) / 2) / √π for a standard normal z; so √(π/2) for p = 1, 1 for p = 2.
    """
    log_moment = p / 2 * math.log(2) + math.lgamma((p + 1) / 2) - math.log(math.pi) / 2
    return 1.0 if p == 2 else math.exp(-log_moment / p)


@norms.register("lp", absorbs_bias=True)
def lp(
    num_features: int,
    dim: int,
    *,
    p: Power = 1.0,
    eps: Eps = 1e-5,
    momentum: MomentumOrAverage = 0.1,
    affine: Affine = True,
) -> nn.Module:
    """L^p batch norm: the mean absolute deviation (p: 1), or that of another power, for the standard one.

    Hoffer et al. 2018 (arXiv 1803.01814): y = gamma * (x - mean) / √(s² + eps) + beta, with
    s = C_p (mean |x - mean|^p)^(1/p). C_p makes s the standard deviation of normal inputs: √(π/2) for p = 1, as in
    the paper, [√π / (2^(p/2) Γ((p + 1) / 2))]^(1/p) in general; p: 2 is `batch`. Santurkar et al. 2018 (arXiv
    1805.11604) have no such constant, which gamma can take over. The running statistics are those of the mean and of
    s², moved as in batch norm, with its factor n / (n - 1).
    """
    return LpBatchNorm(num_features, p, eps, momentum, affine)
