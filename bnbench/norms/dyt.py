"""Dynamic tanh: no statistics at all (Zhu et al. 2025, arXiv 2503.10622)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.channels import at_least_float32, scale_and_shift
from bnbench.norms.options import Affine


class DynamicTanh(nn.Module):
    """y = gamma * tanh(alpha * x) + beta: one alpha a layer, gamma and beta per channel.

    Shapes: (N, C, ...) to the same.
    """

    def __init__(self, num_features: int, alpha: float = 0.5, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.initial_alpha = num_features, alpha
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None

    def forward(self, input: Tensor) -> Tensor:
        """Squash (N, C, ...), value by value."""
        y = torch.tanh(self.alpha * at_least_float32(input))
        return scale_and_shift(y, self.weight, self.bias).to(input.dtype)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.num_features}, alpha={self.initial_alpha}, affine={self.weight is not None}"


@norms.register("dyt", absorbs_bias=False)
def dyt(
    num_features: int, dim: int, *, alpha: Annotated[float, Field(gt=0)] = 0.5, affine: Affine = True
) -> nn.Module:
    """Dynamic tanh (DyT): gamma * tanh(alpha * x) + beta, alpha learnt, without any statistics.

    Zhu et al. 2025 (arXiv 2503.10622), section 4: alpha starts at 0.5, gamma at 1, beta at 0. Made to
    replace layer norm in transformers; its authors report that in place of batch norm it loses accuracy.

    alpha: initial value of the learnt factor inside tanh, one a layer
    """
    return DynamicTanh(num_features, alpha, affine)
