"""Normalization of queries and keys alone (Henry et al. 2020, arXiv 2010.04245; Dehghani et al. 2023, 2302.05442)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.layer_norm import ChannelLayerNorm
from bnbench.norms.options import Affine, Eps
from bnbench.norms.place import PLAIN, Place
from bnbench.norms.rms_norm import ChannelRMSNorm


@norms.register("qk", absorbs_bias=False, takes_place=True, queries_and_keys=True)
def qk(
    num_features: int,
    dim: int,
    place: Place = PLAIN,
    *,
    kind: Annotated[Literal["rms", "layer"], Field(description="how they are normalized")] = "rms",
    eps: Eps = 1e-5,
    affine: Affine = True,
) -> nn.Module:
    """QK norm: queries and keys of attention are normalized over the width of a head, and nothing else is.

    Dehghani et al. 2023 (arXiv 2302.05442), section 2, with layer norm; RMS norm is what most models have since (Gemma
    3, Qwen 3). gamma (and beta, kind: layer) per value of a head, shared by all heads. It bounds the logits of
    attention: |q · k| / √d is at most √d, as long as gamma is 1. At every other place of the network the input comes
    out as it is. Networks with attention only. To normalize queries and keys beside another normalizer, see the option
    `qk_norm` of the models `transformer` and `vit`.
    """
    if place.attention and place.role != "query_key":
        return nn.Identity()
    if num_features == 1:
        raise BnbenchError(
            f"norm qk over 1 value, kind: {kind}: normalized with itself, one value is always the same.",
            fix="fewer heads, so that each is wider.",
        )
    if dim == 1:
        layer = nn.RMSNorm if kind == "rms" else nn.LayerNorm
        return layer(num_features, eps, elementwise_affine=affine)
    if kind == "rms":
        return ChannelRMSNorm(num_features, eps, affine, "channels")
    return ChannelLayerNorm(num_features, eps, affine)
