"""Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2), with normalized queries and keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bnbench.base.errors import BnbenchError
from bnbench.models.layers import NormLayer
from bnbench.models.sequences import SequenceModule
from bnbench.norms.tokens import TokenNorm

QKNorm = Annotated[
    Literal["none", "rms", "layer", "norm"],
    Field(
        description="queries and keys of each head: as they are; by RMS norm or layer norm over the head's width; or "
        "by the study's normalizer"
    ),
]


class Attention(SequenceModule):
    """softmax(q kᵀ / √d) v in each head, d = width / heads, and a linear layer over the heads' outputs.

    query_norm, key_norm: over the d values of a head, one gamma for all heads (Dehghani et al. 2023, arXiv
    2302.05442, section 2); Identity without. The key has no bias where nothing normalizes it: the softmax takes it out.
    """

    def __init__(
        self, width: int, heads: int, norm: NormLayer, qk_norm: QKNorm, *, causal: bool, bias: bool
    ) -> None:
        """norm: at the place of a branch. bias: of the layers whose bias the residual sum gets."""
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query_norm, absorbs = query_key_norm(width // heads, norm, qk_norm)
        self.key_norm, _ = query_key_norm(width // heads, norm, qk_norm)
        plain = type(self.key_norm) is nn.Identity
        self.query = norm.weights(nn.Linear(width, width, bias=not absorbs), "none")
        self.key = norm.weights(nn.Linear(width, width, bias=not (plain or absorbs)), "none")
        self.value = norm.weights(nn.Linear(width, width, bias=bias), "none")
        self.out = norm.at("branch_end").weights(nn.Linear(width, width, bias=bias), "none")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, T, width) to the same. mask: (N, T), True where valid: no position looks at padding."""
        q = self._headed(self.query_norm, self.query(x), mask)
        k = self._headed(self.key_norm, self.key(x), mask)
        v = self._split(self.value(x))
        seen = None if mask is None else mask[:, None, None, :]
        if seen is not None and self.causal:
            length = x.shape[1]
            seen = seen & seen.new_ones(length, length).tril()
        y = scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=self.causal and seen is None)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """(N, T, width) to (N, heads, T, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call,no-any-return]

    def _headed(self, norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
        """The same, normalized: each head of each sequence is a sequence of vectors of d values."""
        x = self._split(x)
        if not isinstance(norm, TokenNorm):
            y: Tensor = norm(x)
            return y
        by_head = None if mask is None else mask.repeat_interleave(self.heads, 0)
        return norm(x.flatten(0, 1), by_head).view(x.shape)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """What the layer list shows."""
        return f"heads={self.heads}, causal={self.causal}"


def query_key_norm(width: int, norm: NormLayer, qk_norm: QKNorm) -> tuple[nn.Module, bool]:
    """The normalizer of queries or keys over the `width` values of a head, and whether it absorbs a bias before it.

    Raises BnbenchError where a normalizer of queries and keys meets `qk_norm`, and for heads of a single value.
    """
    own = norm.entry.facts.queries_and_keys
    if own and qk_norm != "none":
        raise BnbenchError(
            f"model.qk_norm: {qk_norm} with norm {norm.entry.name}, which normalizes the queries and keys itself.",
            "They would be normalized twice.",
            "leave model.qk_norm out, or choose another normalizer.",
        )
    if qk_norm == "none" and not own:
        return nn.Identity(), False
    if width == 1:
        raise BnbenchError(
            "queries and keys of one value a head: normalized with itself, a value is always the same.",
            fix="fewer heads, or no normalizer of queries and keys.",
        )
    if own or qk_norm == "norm":
        return norm.at("query_key").tokens(width), norm.absorbs_bias
    return (nn.LayerNorm if qk_norm == "layer" else nn.RMSNorm)(width, eps=1e-5), False
