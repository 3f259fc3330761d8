"""Batch normalization as Keras has it, for comparisons between the frameworks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm import fast, inference
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.options import Affine, Eps
from bnbench.norms.steps import Steps

Keep = Annotated[
    float, Field(ge=0, le=1, description="weight of the old value in the running statistics, as in Keras")
]
"""Weight of the *old* value in the running statistics, as in Keras."""


class KerasBatchNorm(BatchNormVariant):
    """Batch norm with Keras's rule for the running statistics; (N, C, ...) of 2 to 5 axes."""

    momentum: float

    def normalize(self, x: Tensor) -> Tensor:
        """moving = momentum * moving + (1 - momentum) * batch, with the biased variance."""
        y, mean, var = fast(x, self.weight, self.bias, self.eps)
        self.num_batches_tracked.add_(1)
        for moving, batch in ((self.running_mean, mean), (self.running_var, var)):
            moving.mul_(self.momentum).add_(batch.detach().flatten(), alpha=1 - self.momentum)
        return y

    def infer(self, x: Tensor) -> Tensor:
        """As batch norm: with the running statistics."""
        return inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)


@norms.register("batch_keras", absorbs_bias=True, steps=Steps(running="biased", keeps_old=True))
def batch_keras(
    num_features: int, dim: int, *, eps: Eps = 1e-3, momentum: Keep = 0.99, affine: Affine = True
) -> nn.Module:
    """Batch normalization with Keras's defaults and Keras's running statistics.

    keras.layers.BatchNormalization (Keras 3): moving = momentum * moving + (1 - momentum) * batch, so
    `momentum` is the weight of the *old* value (torch's 0.01 is Keras's 0.99), and the variance that is
    stored is the biased one. (tf.keras 2 stored the unbiased one for images, through its fused kernel.)
    In one thing this layer is not Keras's: one value per channel in training raises ValueError, as
    torch does, where Keras returns beta whatever comes in.
    """
    return KerasBatchNorm(num_features, eps, momentum, affine)
