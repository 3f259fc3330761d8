"""Stacked forms of the parts of a transformer, for sequences without padding: inputs (S, N, T) or (S, N, T, C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bnbench.base.stacked import LANES, Parameters, StackedForm, StackedLayer, aligned, stacked_form, stacks
from bnbench.engine.stacked.layers import Linear, OneByOne, gathered
from bnbench.engine.stacked.plain import is_plain
from bnbench.engine.stacked.row_norms import ROW_FORMS, RowIdentity
from bnbench.models.attention import Attention
from bnbench.models.sequences import LearntPositions, TokenEmbedding
from bnbench.models.transformer_block import FeedForwardNetwork, ResidualBranch, TransformerBlock
from bnbench.norms.tokens import TokenNorm


@stacks(TokenEmbedding, where=lambda module: module.padding_idx is None and module.max_norm is None)
class StackedTokenEmbedding(StackedLayer):
    """Tokens (S, N, T) to their vectors (S, N, T, C), by torch's own kernels, replica by replica."""

    def __init__(self, modules: Sequence[TokenEmbedding], parameters: Parameters) -> None:
        self.weight, self.d_weight = parameters.of(modules[0].weight), parameters.grad(modules[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        """Select the rows."""
        self._x, (count, width) = x, (x[0].numel(), self.weight.shape[-1])
        y = aligned((len(x), count, width), self.weight)
        for tokens, weight, out in zip(x, self.weight, y, strict=True):
            torch.index_select(weight, 0, tokens.flatten(), out=out)
        return y.view(*x.shape, width)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """Add up the gradients of each token's positions."""
        for tokens, out, part in zip(self._x, self.d_weight, grad, strict=True):
            out.copy_(torch.ops.aten.embedding_dense_backward(part, tokens, len(out), -1, False))
        return grad


@stacks(LearntPositions)
class StackedPositions(StackedLayer):
    """x + p of each position."""

    def __init__(self, modules: Sequence[LearntPositions], parameters: Parameters) -> None:
        self.weight, self.d_weight = parameters.of(modules[0].weight), parameters.grad(modules[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, T, C) to the same."""
        return torch.add(x, self.weight[:, : x.shape[2]].unsqueeze(1), out=aligned(x.shape, x))

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """dp = Σ dY over the windows."""
        torch.sum(grad, 1, out=self.d_weight[:, : grad.shape[2]])
        return grad


def norm_form(module: nn.Module) -> StackedForm | None:
    """The form of a normalizer of positions, or of queries and keys; None where there is none."""
    layer = module.layer if isinstance(module, TokenNorm) else module
    if not is_plain(module) or not is_plain(layer) or getattr(module, "whole_sequences", False):
        return None
    return ROW_FORMS.get(type(layer)) or (stacked_form(layer) if isinstance(module, TokenNorm) else None)


@stacks(TokenNorm, where=lambda module: norm_form(module) is not None)
class StackedTokenNorm(StackedLayer):
    """The stacked form of the layer for (N, C), over the positions as its rows."""

    def __init__(self, modules: Sequence[TokenNorm], parameters: Parameters) -> None:
        form = norm_form(modules[0])
        assert form is not None
        self.rows = form([module.layer for module in modules], parameters)

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, T, C) to the same."""
        return self.rows.forward(x.flatten(1, -2)).view(x.shape)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """Of the rows."""
        return self.rows.backward(grad.flatten(1, -2), needed).view(grad.shape)

    def why_not_graphed(self) -> str:
        """As the layer's form."""
        return self.rows.why_not_graphed()


def _norm(modules: Sequence[nn.Module], parameters: Parameters) -> StackedLayer:
    """A normalizer inside a block; one without a form of its own is called replica by replica."""
    if isinstance(modules[0], TokenNorm):
        return (stacked_form(modules[0]) or OneByOne)(modules, parameters)
    return (norm_form(modules[0]) or OneByOne)(modules, parameters)


class StackedAttention(StackedLayer):
    """Self-attention: its products as batched ones, and one call of the attention over all replicas' sequences."""

    def __init__(self, modules: Sequence[Attention], parameters: Parameters) -> None:
        def linear(name: str) -> Linear:
            return Linear([getattr(module, name) for module in modules], parameters)

        self.heads, self.causal = modules[0].heads, modules[0].causal
        self.query, self.key, self.value, self.out = map(linear, ("query", "key", "value", "out"))
        self.query_norm = _norm([module.query_norm for module in modules], parameters)
        self.key_norm = _norm([module.key_norm for module in modules], parameters)

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, T, C) to the same."""
        self._shape = x.shape
        q = self._headed(self.query_norm, self.query.forward(x))
        k = self._headed(self.key_norm, self.key.forward(x))
        v = self.value.forward(x)
        # one call where no replica's part begins between two aligned places, else one a replica
        whole = x[0].numel() % LANES == 0
        groups = zip(*((t,) if whole else t.unbind(0) for t in (q, k, v)), strict=True)
        self._calls = [self._attend(*group) for group in groups]
        return self.out.forward(self._joined([y.detach() for _, y in self._calls]))

    def _headed(self, norm: StackedLayer, x: Tensor) -> Tensor:
        """Normalized over the width of each head."""
        if isinstance(norm, RowIdentity):
            return x
        s, n, t, c = x.shape
        return norm.forward(x.reshape(s, n, t * self.heads, c // self.heads)).view(x.shape)

    @torch.enable_grad()
    def _attend(self, *parts: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Of queries, keys and values (..., T, C): these as leaves (sequences, heads, T, d), and the output."""
        q, k, v = (self._split(part.flatten(0, -3)).detach().requires_grad_() for part in parts)
        return (q, k, v), scaled_dot_product_attention(q, k, v, is_causal=self.causal)

    def _split(self, x: Tensor) -> Tensor:
        """(sequences, T, C) to (sequences, heads, T, d)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        """(sequences, heads, T, d), of all replicas or of each, to (S, N, T, C)."""
        rows = [part.transpose(1, 2).flatten(2) for part in parts]
        return rows[0].view(self._shape) if len(rows) == 1 else gathered(rows)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """By autograd in the attention, by hand around it."""
        inner = self.out.backward(grad, True)
        parts = [inner] if len(self._calls) == 1 else inner.unbind(0)
        grads = []
        for (leaves, y), part in zip(self._calls, parts, strict=True):
            d_y = self._split(part.reshape(-1, *part.shape[-2:]))
            grads.append(torch.autograd.grad(y, leaves, d_y))
        d_q, d_k, d_v = (self._joined(of_each) for of_each in zip(*grads, strict=True))
        d_x = self.query.backward(self._unheaded(self.query_norm, d_q), True)
        d_x.add_(self.key.backward(self._unheaded(self.key_norm, d_k), True))
        return d_x.add_(self.value.backward(d_v, True))

    def _unheaded(self, norm: StackedLayer, grad: Tensor) -> Tensor:
        if isinstance(norm, RowIdentity):
            return grad
        s, n, t, c = grad.shape
        return norm.backward(grad.reshape(s, n, t * self.heads, c // self.heads), True).view(grad.shape)


class StackedChain(StackedLayer):
    """Layers in order, as one."""

    def __init__(self, layers: Sequence[StackedLayer]) -> None:
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """From the first to the last."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """From the last to the first."""
        for layer in reversed(self.layers):
            grad = layer.backward(grad, True)
        return grad


class StackedBranch(StackedLayer):
    """post(x + scale * after(branch(before(x))))."""

    def __init__(self, modules: Sequence[ResidualBranch], parameters: Parameters) -> None:
        first, self.scale = modules[0], modules[0].scale

        def norm(name: str) -> list[StackedLayer]:
            own = [getattr(module, name) for module in modules]
            return [] if own[0] is None else [_norm(own, parameters)]

        branches: list[Any] = [module.branch for module in modules]
        if isinstance(first.branch, Attention):
            inner: StackedLayer = StackedAttention(branches, parameters)
        else:
            inner = _feed_forward(branches, parameters)
        self.branch = StackedChain([*norm("before"), inner, *norm("after")])
        self.post = StackedChain(norm("post"))

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, T, C) to the same."""
        y = self.branch.forward(x)
        return self.post.forward(torch.add(x, y, alpha=self.scale, out=aligned(x.shape, x)))

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """Along the branch and past it."""
        grad = self.post.backward(grad, True)
        inner = self.branch.backward(grad if self.scale == 1 else grad * self.scale, True)
        return torch.add(grad, inner, out=aligned(grad.shape, grad))


def _feed_forward(modules: Sequence[FeedForwardNetwork], parameters: Parameters) -> StackedChain:
    """Linear, activation, Linear."""
    form = stacked_form(modules[0].activation) or OneByOne
    return StackedChain(
        [
            Linear([module.first for module in modules], parameters),
            form([module.activation for module in modules], parameters),
            Linear([module.second for module in modules], parameters),
        ]
    )


def _is_known(block: TransformerBlock) -> bool:
    """Whether every part is as the forms here know it."""
    branches = [block.attention, block.feed_forward]
    inner = [branch.branch for branch in branches]
    kinds = [type(part) for part in (*branches, *inner)]
    linear = [part for name, part in block.named_modules() if name.rpartition(".")[2] in _LINEAR]
    return (
        kinds == [ResidualBranch, ResidualBranch, Attention, FeedForwardNetwork]
        and all(type(part) is nn.Linear for part in linear)
        and all(map(is_plain, block.modules()))
        and not any(getattr(part, "whole_sequences", False) for part in block.modules())
    )


_LINEAR = {"query", "key", "value", "out", "first", "second"}


@stacks(TransformerBlock, where=_is_known)
class StackedBlock(StackedChain):
    """Attention, then the feed-forward network."""

    def __init__(self, modules: Sequence[TransformerBlock], parameters: Parameters) -> None:
        branches = ([getattr(module, name) for module in modules] for name in ("attention", "feed_forward"))
        super().__init__([StackedBranch(branch, parameters) for branch in branches])

    def why_not_graphed(self) -> str:
        """Autograd runs inside."""
        return "differentiates its attention by autograd"
