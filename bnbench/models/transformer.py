"""A transformer over tokens, or over sequences of numbers (Vaswani et al. 2017, arXiv 1706.03762)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.attention import QKNorm
from bnbench.models.layers import NormLayer, classifier
from bnbench.models.sequences import (
    ClassToken,
    Pool,
    Positions,
    TokenEmbedding,
    embedding,
    pool_of,
    positions_of,
    sequential,
)
from bnbench.models.transformer_block import (
    Blocks,
    BranchActivation,
    Depth,
    FeedForward,
    FinalNorm,
    Heads,
    NormPlace,
    ResidualScale,
    Width,
)

Tied = Annotated[bool, Field(description="the last layer has the weights of the embedding")]
Causal = Annotated[
    bool | None,
    Field(
        description="no position sees a later one; where left out: where each position has an output of its own"
    ),
]


@models.register("transformer", init="torch", tasks=("language_model", "text_classification"))
def transformer(
    sizes: Sizes,
    norm: NormLayer,
    *,
    depth: Depth = 2,
    width: Width = 64,
    heads: Heads = 4,
    norm_position: NormPlace = "pre",
    feed_forward: FeedForward = 4.0,
    activation: BranchActivation = "gelu",
    qk_norm: QKNorm = "none",
    final_norm: FinalNorm = None,
    residual_scale: ResidualScale = "initial",
    positions: Positions = "learnt",
    pool: Pool = "mean",
    tied_embeddings: Tied = False,
    causal: Causal = None,
) -> nn.Module:
    """Transformer (Vaswani et al. 2017) over tokens or numbers: GPT-2's form for text, an encoder for classes.

    Where each position has an output of its own, as in a language model, it is causal. Else one vector of the sequence
    goes to the last layer. Padding is seen by no position.
    """
    blocks = Blocks(
        depth, width, heads, norm_position, feed_forward, activation, qk_norm, final_norm, residual_scale
    )
    blocks.check(norm)
    _check_pool(pool, sizes)
    norm = blocks.at_place(norm)
    has_token = pool == "class_token"
    length = sizes.input_shape[0] + has_token
    model = sequential(sizes)
    model.add_module(
        "embedding", embedding(sizes, width, norm, bias=has_token or blocks.embedding_needs_bias(norm))
    )
    if has_token:
        model.add_module("class_token", ClassToken(width))
    model.add_module("positions", positions_of(positions, length, width))
    model.add_module("blocks", blocks.made(norm, causal=sizes.per_position if causal is None else causal))
    if blocks.ends_with_norm:
        model.add_module("norm", norm.tokens(width))
    if not sizes.per_position:
        model.add_module("pool", pool_of(pool))
    model.add_module("head", classifier(width, sizes.num_outputs, norm))
    if tied_embeddings:
        _tie(model)
    return model


def _check_pool(pool: Pool, sizes: Sizes) -> None:
    if pool == "class_token" and sizes.per_position:
        raise BnbenchError(
            "model.pool: class_token, and each position has an output of its own.",
            "There is no class to be read from a token.",
            "leave model.pool out.",
        )


def _tie(model: nn.Sequential) -> None:
    """Press & Wolf 2017 (arXiv 1608.05859), section 3. Raises BnbenchError where the two have other shapes."""
    table, head = model.get_submodule("embedding"), model.get_submodule("head")
    if not isinstance(table, TokenEmbedding) or table.weight.shape != head.weight.shape:
        what = (
            "numbers come in" if not isinstance(table, TokenEmbedding) else "its outputs are not the tokens"
        )
        raise BnbenchError(
            f"model.tied_embeddings: true, and {what}.",
            "The last layer can share the weights of the embedding only where both are of the same tokens.",
            "leave tied_embeddings out.",
        )
    head.weight = table.weight
