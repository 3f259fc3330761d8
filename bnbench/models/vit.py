"""The vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.1)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.models import models
from bnbench.models.attention import QKNorm
from bnbench.models.layers import NormLayer, classifier
from bnbench.models.sequences import ClassToken, Pool, Positions, pool_of, positions_of
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


class Patches(nn.Module):
    """(N, C, H, W) -> (N, T, C * P * P): the values of each P x P patch, patches row by row."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Cut."""
        count, channels, height, width = x.shape
        size = self.size
        parts = x.reshape(count, channels, height // size, size, width // size, size)
        return parts.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def extra_repr(self) -> str:
        """The side of a patch."""
        return f"size={self.size}"


@models.register("vit", init="torch", tasks=("image_classification",))
def vit(
    input_shape: tuple[int, int, int],
    num_classes: int,
    norm: NormLayer,
    *,
    patch: Annotated[
        int, Field(ge=1, le=10_000, description="side of a patch in pixels, which divides height and width")
    ] = 4,
    depth: Depth = 4,
    width: Width = 64,
    heads: Heads = 4,
    norm_position: NormPlace = "pre",
    feed_forward: FeedForward = 2.0,
    activation: BranchActivation = "gelu",
    qk_norm: QKNorm = "none",
    final_norm: FinalNorm = None,
    residual_scale: ResidualScale = "initial",
    positions: Positions = "learnt",
    pool: Pool = "mean",
) -> nn.Module:
    """Vision transformer (ViT, Dosovitskiy et al. 2021): a linear layer over patches, then an encoder.

    The authors' form has a class token; the mean of all patches does as well (Beyer et al. 2022, arXiv 2205.01580).
    """
    blocks = Blocks(
        depth, width, heads, norm_position, feed_forward, activation, qk_norm, final_norm, residual_scale
    )
    blocks.check(norm)
    channels, rows, columns = input_shape
    _check_patch(patch, rows, columns)
    norm = blocks.at_place(norm)
    has_token = pool == "class_token"
    length = (rows // patch) * (columns // patch) + has_token
    bias = has_token or blocks.embedding_needs_bias(norm)
    linear = nn.Linear(channels * patch**2, width, bias=bias)
    model = nn.Sequential()
    model.add_module("patches", Patches(patch))
    model.add_module("embedding", norm.first().weights(linear, "none"))
    if has_token:
        model.add_module("class_token", ClassToken(width))
    model.add_module("positions", positions_of(positions, length, width))
    model.add_module("blocks", blocks.made(norm, causal=False))
    if blocks.ends_with_norm:
        model.add_module("norm", norm.tokens(width))
    model.add_module("pool", pool_of(pool))
    model.add_module("head", classifier(width, num_classes, norm))
    return model


def _check_patch(patch: int, rows: int, columns: int) -> None:
    if rows % patch == 0 and columns % patch == 0:
        return
    sides = [str(side) for side in range(2, min(rows, columns) + 1) if rows % side == 0 == columns % side]
    fix = f"patch: {', '.join(sides[:-1])}{' or ' * (len(sides) > 1)}{sides[-1]}." if sides else "patch: 1."
    raise BnbenchError(
        f"model.patch: {patch} does not divide the images of {rows} x {columns} pixels.",
        "A vision transformer cuts an image into whole patches.",
        fix,
    )
