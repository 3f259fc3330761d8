r"""Batch normalization as Keras defines it (tf.keras.layers.BatchNormalization, Keras 3).

In training the same as torch's. It differs in its defaults and in what it stores for evaluation:

    running_mean = momentum * running_mean + (1 - momentum) * mean
    running_var  = momentum * running_var  + (1 - momentum) * var     var = Σ (x - mean)² / n, the biased one

momentum is the weight of the *old* value, 0.99: the start (0, 1) is forgotten to a hundredth after 458 steps,
where torch's 0.1 needs 44.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bnbench.norms import norms
from bnbench.norms.options import Eps

KeptShare = Annotated[float, Field(ge=0, le=1)]
"""Weight of the *old* value in the running statistics, as in Keras."""


class KerasBatchNorm(nn.Module):
    """Normalizes (N, C, ...) per channel; state names as torch's, so that checkpoints can be compared."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, momentum: float = 0.99, eps: float = 1e-3, affine: bool = True
    ) -> None:
        super().__init__()
        self.num_features, self.momentum, self.eps, self.affine = num_features, momentum, eps, affine
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def extra_repr(self) -> str:
        """The arguments, in Keras's sense."""
        return f"{self.num_features}, momentum={self.momentum}, eps={self.eps}, affine={self.affine}"

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; in training with the batch's statistics, towards which the running ones move."""
        mean, var, weight, bias = self.running_mean, self.running_var, self.weight, self.bias
        if not self.training or x.numel() == 0:  # an empty batch has no statistics, and moves nothing
            return functional.batch_norm(x, mean, var, weight, bias, eps=self.eps)
        with torch.no_grad():
            axes = [axis for axis in range(x.ndim) if axis != 1]
            batch_var, batch_mean = torch.var_mean(x, axes, correction=0)
            mean.lerp_(batch_mean, 1 - self.momentum)
            var.lerp_(batch_var, 1 - self.momentum)
        return functional.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)


@norms.register("batch_keras", absorbs_bias=True, needs_batch=True)
def batch_keras(
    num_features: int, dim: int, *, momentum: KeptShare = 0.99, eps: Eps = 1e-3, affine: bool = True
) -> nn.Module:
    """Batch normalization with Keras's defaults and Keras's rule for the running statistics (Keras 3)."""
    return KerasBatchNorm(num_features, momentum, eps, affine)
