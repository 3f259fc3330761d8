"""Population normalization: batch norm's formula with running statistics, in training too (Luo et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm import inference
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import at_least_float32, reduced_axes
from bnbench.norms.options import Affine, Eps, MomentumOrAverage


class PopulationNorm(BatchNormVariant):
    """Running statistics in training as at inference; 2 to 5 axes. See `population`."""

    def normalize(self, x: Tensor) -> Tensor:
        """With the statistics of the batches before this one; then this batch moves them."""
        before = self.running_mean.clone(), self.running_var.clone()
        # a compiled graph that reads and moves them would give its backward pass the moved ones (torch 2.14)
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
            torch._dynamo.graph_break()
        y = inference(x, *before, self.weight, self.bias, self.eps)
        axes, values = reduced_axes(x), at_least_float32(x.detach())
        mean = values.mean(axes, keepdim=True)
        self.track(x, mean, (values - mean).square().mean(axes))
        return y

    def infer(self, x: Tensor) -> Tensor:
        """Gamma * (x - running mean) / sqrt(running variance + eps) + beta."""
        return inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)


@norms.register("population", absorbs_bias=False)
def population(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: MomentumOrAverage = 0.1,
    affine: Affine = True,
) -> nn.Module:
    """Population normalization: batch norm's formula with running statistics, in training too.

    Luo et al. 2019 (arXiv 1809.00846): batch norm without the noise of a batch's statistics, which they
    derive to be its regularization. Their population is all training samples; here the running mean and variance stand
    for it. A step normalizes with the statistics of the batches before it (mean 0 and variance 1 before the first).
    These are constants: the gradient reaches x, gamma and beta alone. Then the batch moves them, as in batch norm.
    Samples do not depend on their batch, and a bias before the layer has an effect.
    """
    return PopulationNorm(num_features, eps, momentum, affine)
