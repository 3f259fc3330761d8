"""SkipInit: residual branches that start at zero, and no normalizer (De & Smith 2020, arXiv 2002.10444)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.place import PLAIN, Place


class BranchScale(nn.Module):
    """y = alpha * x with one learnt alpha; any shape to the same."""

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__()
        self.initial_alpha = alpha
        self.alpha = nn.Parameter(torch.full((1,), alpha))

    def forward(self, input: Tensor) -> Tensor:
        """Scale."""
        return (self.alpha * input).to(input.dtype)

    def extra_repr(self) -> str:
        """Where alpha starts."""
        return f"alpha={self.initial_alpha}"


@norms.register("skipinit", absorbs_bias=False, residual_only=True, takes_place=True)
def skipinit(num_features: int, dim: int, place: Place = PLAIN, *, alpha: float = 0.0) -> nn.Module:
    """SkipInit: no normalizer, but a learnt factor at the end of each residual branch, from 0.

    De & Smith 2020 (arXiv 2002.10444), section 4: with alpha 0 the residual blocks are the identity at the
    start, which is what batch norm does in effect for deep residual networks. Everywhere but at the end of a
    branch the input comes out as it is, and all layers have their bias. Residual networks only: in a
    plain network there is no branch, and it would be `none`.

    alpha: initial value of the learnt factor
    """
    return BranchScale(alpha) if place.role == "branch_end" else nn.Identity()
