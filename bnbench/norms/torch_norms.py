"""No normalizer at all, and torch's own normalizers made alike: same arguments, same names of options."""

from __future__ import annotations

from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.layer_norm import ChannelLayerNorm
from bnbench.norms.options import Affine, Axes, Eps, MomentumOrAverage, TrackRunningStats
from bnbench.norms.steps import BATCH, Steps


@norms.register("none", absorbs_bias=False)
def none(num_features: int, dim: int) -> nn.Module:
    """No normalization: the input comes out as it is."""
    return nn.Identity()


@norms.register("batch", absorbs_bias=True, steps=BATCH)
def batch(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: MomentumOrAverage = 0.1,
    affine: Affine = True,
    track_running_stats: TrackRunningStats = True,
) -> nn.Module:
    """Batch normalization, torch's own layer (torch.nn.BatchNorm1d, BatchNorm2d).

    Ioffe & Szegedy 2015. Normalizes with the biased variance, stores the unbiased one; running =
    (1 - momentum) * running + momentum * batch, momentum None: the average over all batches.
    """
    layer = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dim]
    return layer(num_features, eps, momentum, affine, track_running_stats)


@norms.register("layer", absorbs_bias=False, steps=Steps("features"))
def layer(
    num_features: int, dim: int, *, axes: Axes = "all", eps: Eps = 1e-5, affine: Affine = True
) -> nn.Module:
    """Layer normalization: every sample over all its values, gamma and beta per channel.

    Ba, Kiros & Hinton 2016 (arXiv 1607.06450). (N, C): over C, torch.nn.LayerNorm(C). (N, C, H, W):
    over C, H and W, torch.nn.GroupNorm(1, C), as Wu & He 2018 define it for convolutions; with
    axes: channels over C at each position, as in ConvNeXt (Liu et al. 2022, arXiv 2201.03545).
    Raises BnbenchError where one value is normalized with itself: the output would be beta, whatever comes in.
    """
    if num_features == 1 and (dim == 1 or axes == "channels"):
        raise BnbenchError(
            "norm layer over 1 channel: normalized with itself, one value is always beta.",
            fix="give the layer before it more than 1 unit, or use norm: batch.",
        )
    if dim == 1:
        return nn.LayerNorm(num_features, eps, elementwise_affine=affine)
    if axes == "channels":
        return ChannelLayerNorm(num_features, eps, affine)
    return nn.GroupNorm(1, num_features, eps, affine)


_OVER_TIME = (
    "It normalizes each channel of a sequence over its T positions: a position of a causal model would see the later "
    "ones, and padding would count.",
    "use norm: layer or rms (each position over its channels), or norm: masked_batch (over the batch's positions).",
)


@norms.register("instance", absorbs_bias=True, not_over_tokens=_OVER_TIME)
def instance(num_features: int, dim: int, *, eps: Eps = 1e-5, affine: Affine = True) -> nn.Module:
    """Instance normalization: every channel of every sample over its positions; images only.

    Ulyanov, Vedaldi & Lempitsky 2016 (arXiv 1607.08022), torch.nn.InstanceNorm2d without running
    statistics; unlike torch's default it has gamma and beta, as the other normalizers here.
    Raises BnbenchError for (N, C), where a channel of a sample is a single value.
    """
    if dim == 1:
        raise BnbenchError(
            "norm instance can't be used on inputs (N, C).",
            "It normalizes each channel of a sample over its positions (H, W); here each is one value.",
            "use norm: layer (over the channels of a sample) or norm: batch (over the samples).",
        )
    return (nn.InstanceNorm2d if dim == 2 else nn.InstanceNorm3d)(num_features, eps, affine=affine)
