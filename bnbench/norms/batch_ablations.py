"""Batch normalization with one of its parts taken out: which of them does the work?

The full layer: y = gamma * (x - mean) / sqrt(var + eps) + beta (Ioffe & Szegedy 2015, arXiv 1502.03167,
Algorithm 1), with running statistics as `batch` has them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm import LAYERS, fast, inference
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import at_least_float32, column, reduced_axes, scale_and_shift
from bnbench.norms.options import Affine, Eps, MomentumOrAverage
from bnbench.norms.steps import BATCH, Steps


class BatchNormWithoutGamma(BatchNormVariant):
    """y = (x - mean) / sqrt(var + eps) + beta."""

    def __init__(self, num_features: int, eps: float, momentum: float | None) -> None:
        super().__init__(num_features, eps, momentum)
        self.weight = None

    def normalize(self, x: Tensor) -> Tensor:
        """With the batch's statistics."""
        y, mean, var = fast(x, None, self.bias, self.eps)
        self.track(x, mean, var)
        return y

    def infer(self, x: Tensor) -> Tensor:
        """With the running statistics."""
        return inference(x, self.running_mean, self.running_var, None, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The arguments; the layer's name already implies that it has no gamma."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class _OneStatistic(BatchNormVariant):
    """Base of the two layers below: both statistics are computed and tracked, one of them is used."""

    def normalize(self, x: Tensor) -> Tensor:
        """With the batch's statistics."""
        axes, values = reduced_axes(x), at_least_float32(x)
        mean = values.mean(axes, keepdim=True)
        centred = values - mean
        centred = centred - centred.mean(axes, keepdim=True)  # what the mean lost by rounding
        var = centred.square().mean(axes, keepdim=True)
        self.track(x, mean, var)
        return self._with(values, centred, var).to(x.dtype)

    def infer(self, x: Tensor) -> Tensor:
        """With the running statistics."""
        values = at_least_float32(x)
        mean, var = at_least_float32(self.running_mean), at_least_float32(self.running_var)
        return self._with(values, values - column(mean, x), column(var, x)).to(x.dtype)

    def _with(self, x: Tensor, centred: Tensor, var: Tensor) -> Tensor:
        raise NotImplementedError


class MeanOnlyBatchNorm(_OneStatistic):
    """y = gamma * (x - mean) + beta."""

    def _with(self, x: Tensor, centred: Tensor, var: Tensor) -> Tensor:
        return scale_and_shift(centred, self.weight, self.bias)


class VarOnlyBatchNorm(_OneStatistic):
    """y = gamma * x / sqrt(var + eps) + beta."""

    def _with(self, x: Tensor, centred: Tensor, var: Tensor) -> Tensor:
        return scale_and_shift(x / torch.sqrt(var + self.eps), self.weight, self.bias)


@norms.register("batch_no_gamma", absorbs_bias=True, steps=BATCH)
def batch_no_gamma(
    num_features: int, dim: int, *, eps: Eps = 1e-5, momentum: MomentumOrAverage = 0.1
) -> nn.Module:
    """Batch norm without its scale: (x - mean) / sqrt(var + eps) + beta.

    Before a relu the next layer's weights can take over gamma; the airbench CIFAR-10 networks train so.
    """
    return BatchNormWithoutGamma(num_features, eps, momentum)


@norms.register("batch_no_beta", absorbs_bias=True, steps=BATCH)
def batch_no_beta(
    num_features: int, dim: int, *, eps: Eps = 1e-5, momentum: MomentumOrAverage = 0.1
) -> nn.Module:
    """Batch norm without its shift: gamma * (x - mean) / sqrt(var + eps).

    The bias before it has no effect either, so the layer has no shift at all.
    """
    return LAYERS[dim](num_features, eps, momentum, bias=False)


@norms.register("batch_stats_at_inference", absorbs_bias=True)
def batch_stats_at_inference(
    num_features: int, dim: int, *, eps: Eps = 1e-5, affine: Affine = True
) -> nn.Module:
    """Batch norm that uses the batch's own statistics at inference too.

    What remains when the running statistics are not trusted (`batch` with track_running_stats: false). A
    prediction then depends on the other samples of its batch: bnbench evaluates in parts of 1000 at most.
    """
    return LAYERS[dim](num_features, eps, affine=affine, track_running_stats=False)


@norms.register("batch_mean_only", absorbs_bias=True, steps=Steps(divides=False, running="unbiased"))
def batch_mean_only(
    num_features: int, dim: int, *, momentum: MomentumOrAverage = 0.1, affine: Affine = True
) -> nn.Module:
    """Batch norm that only centres: gamma * (x - mean) + beta.

    The mean-only batch normalization of Salimans & Kingma 2016 (arXiv 1602.07868), section 4, without their
    weight normalization, so that the division alone is missing.
    """
    return MeanOnlyBatchNorm(num_features, momentum=momentum, affine=affine)


@norms.register("batch_var_only", absorbs_bias=False)
def batch_var_only(
    num_features: int, dim: int, *, eps: Eps = 1e-5, momentum: MomentumOrAverage = 0.1, affine: Affine = True
) -> nn.Module:
    """Batch norm that only scales: gamma * x / sqrt(var + eps) + beta.

    var is the variance about the mean, as in batch norm, so that the subtraction alone is missing.
    """
    return VarOnlyBatchNorm(num_features, eps, momentum, affine)
