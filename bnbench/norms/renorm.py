"""Batch renormalization (Ioffe 2017, arXiv 1702.03275): training that sees what inference will see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.batch_norm import fast
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import at_least_float32, column, scale_and_shift
from bnbench.norms.options import Affine, Eps, Momentum

Steps = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Clips:
    """The largest factor r and shift d, and the steps at which the clips are relaxed to them: see `renorm`."""

    r_max: float = 3.0
    d_max: float = 5.0
    relax_from: int = 5000
    r_relaxed_at: int = 40000
    d_relaxed_at: int = 25000


#: The values of the paper, section 4.
PAPER = Clips()


class BatchRenorm(BatchNormVariant):
    """Batch renormalization of (N, C, ...), 2 to 5 axes; see `renorm` for the formula.

    running_var is the square of the paper's moving σ, eps included.
    """

    momentum: float

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.01,
        affine: bool = True,
        clips: Clips = PAPER,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.clips = clips

    def normalize(self, x: Tensor) -> Tensor:
        """The batch's statistics, corrected towards the running ones within the clips of this step."""
        normalized, mean, var = fast(x, None, None, self.eps)
        mean, var = mean.detach(), var.detach()
        sigma, running = torch.sqrt(var + self.eps).flatten(), torch.sqrt(self.running_var)
        r_max, d_max = self.limits()
        r = torch.maximum(torch.minimum(sigma / running, r_max), 1 / r_max)
        d = torch.maximum(torch.minimum((mean.flatten() - self.running_mean) / running, d_max), -d_max)
        y = scale_and_shift(scale_and_shift(at_least_float32(normalized), r, d), self.weight, self.bias)
        self.num_batches_tracked.add_(1)
        old, new = 1 - self.momentum, self.momentum
        self.running_mean.mul_(old).add_(mean.flatten(), alpha=new)
        self.running_var.copy_((old * running + new * sigma) ** 2)
        return y.to(x.dtype)

    def limits(self) -> tuple[Tensor, Tensor]:
        """r_max and d_max at this step: 1 and 0 until relax_from, then linear up to their last values."""
        step = self.num_batches_tracked.double()

        last = self.clips

        def relaxed(until: int) -> Tensor:
            return ((step - last.relax_from + 1) / max(1, until - last.relax_from)).clamp(0, 1)

        dtype = self.running_mean.dtype
        r_max = 1 + (last.r_max - 1) * relaxed(last.r_relaxed_at)
        return r_max.to(dtype), (last.d_max * relaxed(last.d_relaxed_at)).to(dtype)

    def infer(self, x: Tensor) -> Tensor:
        """gamma * (x - µ) / σ + beta, with the running µ and σ."""
        centred = at_least_float32(x) - column(at_least_float32(self.running_mean), x)
        y = centred / column(torch.sqrt(at_least_float32(self.running_var)), x)
        return scale_and_shift(y, self.weight, self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        """The arguments of batch norm, the clips and their schedule."""
        clips = (f"{name}={value}" for name, value in vars(self.clips).items())
        return ", ".join([super().extra_repr(), *clips])


@norms.register("renorm", absorbs_bias=True)
def renorm(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: Momentum = 0.01,
    affine: Affine = True,
    r_max: Annotated[float, Field(ge=1)] = 3.0,
    d_max: Annotated[float, Field(ge=0)] = 5.0,
    relax_from: Steps = 5000,
    r_relaxed_at: Steps = 40000,
    d_relaxed_at: Steps = 25000,
) -> nn.Module:
    """Batch renormalization: batch norm pulled towards its running statistics, clipped by r and d.

    Ioffe 2017 (arXiv 1702.03275), Algorithm 1. With σB = sqrt(var + eps) and µB of the batch, µ and σ
    their moving averages (momentum: weight of the new value), all in training:

        y = gamma * ((x - µB) / σB * r + d) + beta
        r = clip(σB / σ, 1 / r_max, r_max)        d = clip((µB - µ) / σ, -d_max, d_max)

    no gradient goes through r and d; inference: gamma * (x - µ) / σ + beta. The clips start at r_max 1 and
    d_max 0, which is batch norm, and are relaxed linearly from step relax_from to r_relaxed_at and
    d_relaxed_at (steps of one optimizer update). The defaults are the paper's (section 4), made for
    160 000 steps: a run shorter than relax_from *is* batch norm, so give short runs shorter ones.
    A bias before the layer has no gradient (it moves x and µB alike), hence there is none.
    Raises BnbenchError for a schedule that ends before it begins.

    r_max: largest factor r, once it is relaxed
    d_max: largest shift d, once it is relaxed
    relax_from: step from which the clips are relaxed; before it the layer is batch norm
    r_relaxed_at: step at which r reaches r_max
    d_relaxed_at: step at which d reaches d_max
    """
    if min(r_relaxed_at, d_relaxed_at) < relax_from:
        raise BnbenchError(
            f"norm.relax_from={relax_from} comes after norm.r_relaxed_at={r_relaxed_at} or "
            f"norm.d_relaxed_at={d_relaxed_at}: the clips would be relaxed before they begin to be.",
            fix="a smaller relax_from, or larger r_relaxed_at and d_relaxed_at.",
        )
    clips = Clips(r_max, d_max, relax_from, r_relaxed_at, d_relaxed_at)
    return BatchRenorm(num_features, eps, momentum, affine, clips)
