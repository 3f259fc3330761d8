"""The transformer's block: attention and a feed-forward network, each on a residual branch with its normalizer.

Positions of the normalizer, with f a branch:
    pre        x + f(norm(x))          Xiong et al. 2020 (arXiv 2002.04745), figure 1b; GPT-2
    post       norm(x + f(x))          Vaswani et al. 2017 (arXiv 1706.03762), section 3.1; BERT
    sandwich   x + norm(f(norm(x)))    Ding et al. 2021 (arXiv 2105.13290), section 2.4; Gemma 2
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from bnbench.base.attention_heads import equal_heads
from bnbench.base.errors import BnbenchError
from bnbench.models.attention import Attention, QKNorm
from bnbench.models.layers import NormLayer
from bnbench.models.sequences import SequenceModule

Depth = Annotated[int, Field(ge=1, le=1000, description="blocks")]
Width = Annotated[int, Field(ge=1, le=100_000, description="values of a position between the blocks")]
Heads = Annotated[int, Field(ge=1, le=10_000, description="heads of attention, which divide the width")]
NormPlace = Annotated[
    Literal["pre", "post", "sandwich"],
    Field(
        description="the normalizer before each branch, after each residual sum, or before and after each branch"
    ),
]
FeedForward = Annotated[
    float, Field(gt=0, le=1000, description="hidden units of the feed-forward network, by the width")
]
BranchActivation = Annotated[
    Literal["gelu", "relu"], Field(description="the activation of the feed-forward network")
]
FinalNorm = Annotated[
    bool | None,
    Field(
        description="a normalizer after the last block; where left out, with norm_position pre and sandwich alone"
    ),
]
ResidualScale = Annotated[
    Literal["initial", "none"] | Annotated[float, Field(gt=0)],
    Field(
        description="initial: the last weights of each branch start smaller by √(2 depth), as in GPT-2; none; or a "
        "factor on each branch, also in training"
    ),
]


@dataclass(frozen=True)
class Blocks:
    """All blocks of one transformer. final_norm: None for what is usual with the position."""

    depth: int
    width: int
    heads: int
    norm_position: Literal["pre", "post", "sandwich"]
    feed_forward: float
    activation: Literal["gelu", "relu"]
    qk_norm: QKNorm
    final_norm: bool | None
    residual_scale: Literal["initial", "none"] | float

    def check(self, norm: NormLayer) -> None:
        """Raises BnbenchError for heads that do not divide the width, and for a normalizer that is an activation."""
        if self.width % self.heads:
            raise BnbenchError(
                f"model.heads: {self.heads} does not divide model.width: {self.width}.",
                "Each head has an equal part of the width.",
                equal_heads(self.heads, self.width),
            )
        if norm.includes_activation:
            raise BnbenchError(
                f"norm {norm.entry.name} is not supported by a transformer.",
                "It is its own activation, and a transformer normalizes where no activation stands.",
                "norm: layer, rms, group or batch, or a model of convolutions for this normalizer.",
            )

    @property
    def ends_with_norm(self) -> bool:
        """Whether a normalizer stands after the last block."""
        return self.norm_position != "post" if self.final_norm is None else self.final_norm

    def sum_needs_bias(self, norm: NormLayer) -> bool:
        """Whether a number that is added to a channel of every position of the residual sum has an effect."""
        hidden = self.norm_position != "pre" or self.ends_with_norm
        return not (norm.absorbs_bias and hidden)

    def embedding_needs_bias(self, norm: NormLayer) -> bool:
        """Whether it has one where the numbers come in: after the branches of `post` have read them, it has."""
        hidden = self.norm_position != "post" and self.ends_with_norm
        return not (norm.absorbs_bias and hidden)

    def at_place(self, norm: NormLayer) -> NormLayer:
        """The normalizer of a network with these residual branches, of two layers of weights each."""
        return norm.residual(branches=2 * self.depth, branch_layers=2).with_attention()

    def made(self, norm: NormLayer, *, causal: bool) -> nn.Sequential:
        """All blocks in order. norm: see `at_place`. causal: no position sees a later one."""
        blocks = nn.Sequential()
        for index in range(self.depth):
            blocks.add_module(str(index), TransformerBlock(self, norm, causal=causal))
        return blocks


class TransformerBlock(SequenceModule):
    """Attention, then the feed-forward network, each as a residual branch: (N, T, C) to the same."""

    def __init__(self, blocks: Blocks, norm: NormLayer, *, causal: bool) -> None:
        super().__init__()
        branch, bias = norm.at("branch"), blocks.sum_needs_bias(norm)
        attention = Attention(blocks.width, blocks.heads, branch, blocks.qk_norm, causal=causal, bias=bias)
        feed_forward = FeedForwardNetwork(blocks, branch, bias=bias)
        self.attention = ResidualBranch(attention, blocks, norm)
        self.feed_forward = ResidualBranch(feed_forward, blocks, norm)
        if blocks.residual_scale == "initial":
            for layer in (attention.out, feed_forward.second):
                factor = getattr(layer, "init_factor", 1.0) / math.sqrt(2 * blocks.depth)
                layer.init_factor = factor  # type: ignore[assignment]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Both branches. mask: (N, T), True where valid."""
        y: Tensor = self.feed_forward(self.attention(x, mask), mask)
        return y


class ResidualBranch(SequenceModule):
    """x + scale * after(branch(before(x))), and `post` of it: of the three normalizers those that the position has."""

    def __init__(self, branch: SequenceModule, blocks: Blocks, norm: NormLayer) -> None:
        super().__init__()
        position, width = blocks.norm_position, blocks.width
        ends_branch = position == "sandwich" or norm.entry.facts.residual_only
        inside = norm.at("branch")
        self.before = inside.tokens(width) if position != "post" else None
        self.branch = branch
        self.after = norm.at("branch_end").tokens(width) if ends_branch else None
        self.post = norm.tokens(width) if position == "post" else None
        self.scale = blocks.residual_scale if isinstance(blocks.residual_scale, float) else 1.0

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, T, C) to the same. mask: (N, T), True where valid."""
        y: Tensor = x if self.before is None else self.before(x, mask)
        y = self.branch(y, mask)
        if self.after is not None:
            y = self.after(y, mask)
        y = x + (y if self.scale == 1 else self.scale * y)
        return y if self.post is None else self.post(y, mask)

    def extra_repr(self) -> str:
        """The factor, where there is one."""
        return "" if self.scale == 1 else f"scale={self.scale:g}"


class FeedForwardNetwork(SequenceModule):
    """Linear, activation, Linear at every position (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, blocks: Blocks, norm: NormLayer, *, bias: bool) -> None:
        super().__init__()
        width, hidden = blocks.width, max(1, round(blocks.feed_forward * blocks.width))
        self.first = norm.weights(nn.Linear(width, hidden), "none")
        self.activation = nn.GELU() if blocks.activation == "gelu" else nn.ReLU()
        self.second = norm.at("branch_end").weights(nn.Linear(hidden, width, bias=bias), blocks.activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, T, C) to the same; the mask changes nothing."""
        y: Tensor = self.second(self.activation(self.first(x)))
        return y
