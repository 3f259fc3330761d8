"""Filter response normalization with its thresholded linear unit (Singh & Krishnan 2019, arXiv 1911.09737)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.channels import at_least_float32, column, scale_and_shift
from bnbench.norms.options import Eps
from bnbench.norms.place import PLAIN, Place


class FilterResponseNorm(nn.Module):
    """y = max(gamma * x / sqrt(nu² + eps) + beta, tau), nu² the mean of x² over the positions of a channel.

    Shapes: (N, C, ...) to the same; gamma, beta and tau are (C,). learnt_eps: where given, eps becomes
    eps + |e| with a learnt e per channel that starts there. threshold: whether there is a tau.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-6, learnt_eps: float | None = None, threshold: bool = True
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.threshold = num_features, eps, threshold
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.tau = nn.Parameter(torch.zeros(num_features)) if threshold else None
        self.learnt_eps = (
            None if learnt_eps is None else nn.Parameter(torch.full((num_features,), learnt_eps))
        )

    @property
    def works_on_single_values(self) -> bool:
        """With a learnt eps, a channel of one value keeps its size (section 3.2 of the paper)."""
        return self.learnt_eps is not None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize every channel of every sample, then cut off below tau."""
        x = at_least_float32(input)
        power = x.square()
        power = power.mean(tuple(range(2, x.dim())), keepdim=True) if x.dim() > 2 else power
        power = power + self.eps
        if self.learnt_eps is not None:
            power = power + column(self.learnt_eps.abs(), x)
        y = scale_and_shift(x * torch.rsqrt(power), self.weight, self.bias)
        y = y if self.tau is None else torch.maximum(y, column(self.tau, x))
        return y.to(input.dtype)

    def extra_repr(self) -> str:
        """The arguments."""
        learnt = self.learnt_eps is not None
        return f"{self.num_features}, eps={self.eps}, learnt_eps={learnt}, threshold={self.threshold}"


@norms.register("filter_response", absorbs_bias=False, includes_activation=True, takes_place=True)
def filter_response(
    num_features: int,
    dim: int,
    place: Place = PLAIN,
    *,
    eps: Eps = 1e-6,
    learn_eps: bool | Literal["auto"] = "auto",
    initial_learnt_eps: Annotated[float, Field(gt=0)] = 1e-4,
) -> nn.Module:
    """Filter response norm with its own activation, max(y, tau) with a learnt tau (FRN, TLU).

    Singh & Krishnan 2019 (arXiv 1911.09737), section 3: each channel of each sample is divided by the root
    mean square over its positions, no mean is subtracted; eps 1e-6. Where a channel is one value, as for
    (N, C), eps + |e| with a learnt e that starts at 1e-4 keeps the layer from being the sign of x
    (learn_eps auto: for (N, C) alone). The thresholded linear unit takes the activation's place, so a
    block has no other; at the end of a residual branch, where no activation follows, tau is left out.

    learn_eps: add a learnt amount to eps, one a channel; auto: for (N, C) alone
    initial_learnt_eps: where that amount starts
    """
    learnt = dim == 1 if learn_eps == "auto" else learn_eps
    threshold = place.role != "branch_end"
    return FilterResponseNorm(num_features, eps, initial_learnt_eps if learnt else None, threshold)
