"""EvoNorm-S0, a normalizer and activation in one, found by search (Liu et al. 2020, arXiv 2004.02967)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.channels import at_least_float32, column, scale_and_shift
from bnbench.norms.group_norm import Groups, number_of_groups
from bnbench.norms.options import Eps
from bnbench.norms.place import PLAIN, Place


class EvoNormS0(nn.Module):
    """y = gamma * x * sigmoid(v * x) / sqrt(var + eps) + beta, var over a group of channels of a sample.

    Shapes: (N, C, ...) to the same; gamma, v and beta are (C,).
    """

    def __init__(self, num_features: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.groups, self.eps = num_features, groups, eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.v = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize and activate (N, C, ...), every sample for itself."""
        x = at_least_float32(input)
        grouped = torch.unflatten(x, 1, (self.groups, -1))
        axes = tuple(range(2, grouped.dim()))
        var = (grouped - grouped.mean(axes, keepdim=True)).square().mean(axes, keepdim=True)
        scale = torch.rsqrt(var + self.eps).expand_as(grouped).flatten(1, 2)
        return scale_and_shift(x * torch.sigmoid(column(self.v, x) * x) * scale, self.weight, self.bias).to(
            input.dtype
        )

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.num_features}, groups={self.groups}, eps={self.eps}"


class ChannelAffine(nn.Module):
    """y = gamma * x + beta per channel; (N, C, ...) to the same."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Scale and shift every channel."""
        return scale_and_shift(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The number of channels."""
        return f"{self.num_features}"


@norms.register("evonorm_s0", absorbs_bias=False, includes_activation=True, takes_place=True)
def evonorm_s0(
    num_features: int, dim: int, place: Place = PLAIN, *, groups: Groups = "auto", eps: Eps = 1e-5
) -> nn.Module:
    """EvoNorm-S0: x * sigmoid(v x) / std of a group * gamma + beta, its own activation.

    Liu et al. 2020 (arXiv 2004.02967), section 4.2 and table 2: v starts at 1, 32 groups (auto: as `group`
    picks them). It takes the activation's place, so a block has no other; at the end of a residual branch,
    where no activation follows, only gamma * x + beta is left, as in the authors' ResNet.
    """
    groups = number_of_groups(num_features, dim, groups)
    return ChannelAffine(num_features) if place.role == "branch_end" else EvoNormS0(num_features, groups, eps)
