"""Frozen batch normalization: statistics that nothing moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm import inference
from bnbench.norms.options import Affine, Eps


class FrozenBatchNorm(nn.Module):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta with fixed mean and var, in training as in inference.

    Shapes: (N, C, ...) to the same. The buffers have batch norm's names, so its state dict loads here.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...) with the fixed statistics."""
        return inference(input, self.running_mean, self.running_var, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The arguments, in torch's words."""
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict[str, object], *rest: object
    ) -> None:
        """Batch norm's counter of batches is let go: nothing counts here."""
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


@norms.register("frozen", absorbs_bias=False)
def frozen(num_features: int, dim: int, *, eps: Eps = 1e-5, affine: Affine = True) -> nn.Module:
    """Frozen batch norm: mean 0 and variance 1 unless a state dict says otherwise; gamma and beta learn.

    What detection networks do with a pretrained backbone (He et al. 2017, arXiv 1703.06870, and
    torchvision.ops.FrozenBatchNorm2d, where gamma and beta are fixed too). `.train()` changes nothing.
    In a network trained from scratch it is the control for "is it the gamma and beta?".
    """
    return FrozenBatchNorm(num_features, eps, affine)
