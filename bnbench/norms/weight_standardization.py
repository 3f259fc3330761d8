"""Weight standardization: the weights are normalized, not only what they give (Qiao et al. 2019, arXiv 1903.10520)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.group_norm import Groups, number_of_groups
from bnbench.norms.options import Affine, Eps
from bnbench.norms.place import Place

WEIGHT_EPS = 1e-5
"""Added to the variance of the weights under the root."""


def standardize(weight: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the fan-in of each output: weight (out, ...) to the same."""
    axes = tuple(range(1, weight.dim()))
    centred = weight - weight.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + WEIGHT_EPS)


class StandardizedConv2d(nn.Conv2d):
    """torch.nn.Conv2d with standardized weights."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) as torch.nn.Conv2d."""
        out: Tensor = self._conv_forward(input, standardize(self.weight), self.bias)
        return out


class StandardizedLinear(nn.Linear):
    """torch.nn.Linear with standardized weights."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_features) as torch.nn.Linear."""
        return torch.nn.functional.linear(input, standardize(self.weight), self.bias)


def standardized(layer: nn.Conv2d | nn.Linear, place: Place) -> nn.Conv2d | nn.Linear:
    """The same layer with standardized weights; the classifier stays as it is.

    Raises BnbenchError for one weight an output: its standardized value is 0, whatever it is.
    """
    if place.role == "head":
        return layer
    if layer.weight[0].numel() == 1:
        raise BnbenchError(
            "norm weight_standardization on a layer with one weight an output: standardized, it is always 0.",
            fix="a model with more than 1 input to each layer, or norm: group.",
        )
    if isinstance(layer, nn.Linear):
        return StandardizedLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    return StandardizedConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        padding_mode=layer.padding_mode,
        bias=layer.bias is not None,
    )


@norms.register("weight_standardization", absorbs_bias=False, weights=standardized)
def weight_standardization(
    num_features: int,
    dim: int,
    *,
    then: Literal["group", "none"] = "group",
    groups: Groups = "auto",
    eps: Eps = 1e-5,
    affine: Affine = True,
) -> nn.Module:
    """Weight standardization of the layer before, then group norm (WS; GN+WS).

    Qiao et al. 2019 (arXiv 1903.10520), section 3: the weights of each output, over its fan-in, are given
    mean 0 and variance 1, (w - mean) / sqrt(var + 1e-5), and gradients flow through that. Then group norm
    (groups, eps and affine are its options), the paper's setting, or with then: none nothing.

    then: the normalizer after the layer of standardized weights
    """
    if then == "none":
        return nn.Identity()
    return nn.GroupNorm(number_of_groups(num_features, dim, groups), num_features, eps, affine)
