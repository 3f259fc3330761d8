"""The parts that models of sequences share: the way of the mask, embeddings, positions and pooling.

A module of sequences maps one tensor (N, T, C) to one tensor, so that a model without padding is a plain Sequential.
Where inputs carry padding (`Sizes.masked`), `MaskedSequential` gives the same modules the mask as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.base.tokens import split_valid, valid_tokens
from bnbench.data import Sizes
from bnbench.models.layers import Block, NormLayer
from bnbench.norms.tokens import TokenNorm

#: Standard deviation of initial embeddings and learnt positions (Radford et al. 2019, GPT-2's code; BERT's too).
EMBEDDING_STD = 0.02
#: The longest period of sinusoidal positions (Vaswani et al. 2017, section 3.5).
LONGEST = 10_000


class SequenceModule(nn.Module):
    """A module that is called `module(x)`, or `module(x, mask)` where inputs have padding.

    x: (N, T, C). mask: (N, T) bool, True where a position holds data.
    """

    def masked(self, mask: Tensor) -> Tensor:
        """The mask of what comes out, for modules that change the number of positions."""
        return mask


class MaskedSequential(nn.Sequential):
    """Modules in order, for inputs with padding: those that look at other positions get the mask.

    inputs: tokens (N, T) int64, of which `PAD` is padding; or numbers (N, T, C + 1), whose last column is the mask.
    """

    def forward(self, x: Tensor) -> Tensor:
        """All modules in order."""
        x, mask = split_valid(x) if x.is_floating_point() else (x, valid_tokens(x))
        return through(self.children(), x, mask)[0]


def through(modules: Iterable[nn.Module], x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out of modules in order, and its mask. x: (N, T, ...); mask: (N, T), True where valid."""
    for module in modules:
        if type(module) in (nn.Sequential, Block):
            x, mask = through(module.children(), x, mask)
        elif isinstance(module, SequenceModule):
            x, mask = module(x, mask), module.masked(mask)
        else:
            x = module(x, mask) if isinstance(module, TokenNorm) else module(x)
    return x, mask


def sequential(sizes: Sizes) -> nn.Sequential:
    """An empty model: a plain Sequential, or one that passes the mask on where inputs have padding."""
    return MaskedSequential() if sizes.masked else nn.Sequential()


class TokenEmbedding(nn.Embedding):
    """torch.nn.Embedding whose vectors start from N(0, std²)."""

    def __init__(self, vocabulary: int, width: int, std: float = EMBEDDING_STD) -> None:
        self.std = std
        super().__init__(vocabulary, width)

    def reset_parameters(self) -> None:
        """Other initial vectors, from torch's global generator."""
        nn.init.normal_(self.weight, std=self.std)


def embedding(
    sizes: Sizes, width: int, norm: NormLayer, *, bias: bool, std: float = EMBEDDING_STD
) -> nn.Module:
    """From tokens (N, T), or numbers (N, T, C), to (N, T, width). bias: of the layer for numbers. std: of tokens."""
    if sizes.vocabulary is not None:
        return TokenEmbedding(sizes.vocabulary, width, std)
    numbers = sizes.input_shape[-1] - sizes.masked
    return norm.first().weights(nn.Linear(numbers, width, bias=bias), "none")


class LearntPositions(nn.Module):
    """x + p: one learnt vector for each position, from N(0, 0.02²). x: (N, T, C) with T up to `length`."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Other initial vectors, from torch's global generator."""
        nn.init.normal_(self.weight, std=EMBEDDING_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Add the positions."""
        return x + self.weight[: x.shape[1]]

    def extra_repr(self) -> str:
        """Length and width."""
        return f"{len(self.weight)}, {self.weight.shape[1]}"


class SinusoidalPositions(nn.Module):
    """x + p with p[t, 2i] = sin(t / 10000^(2i/C)) and p[t, 2i + 1] the cosine (Vaswani et al. 2017, section 3.5)."""

    weight: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        rates = torch.exp(-math.log(LONGEST) * torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
        table = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :width]
        self.register_buffer("weight", table.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add the positions."""
        return x + self.weight[: x.shape[1]].to(x.dtype)

    def extra_repr(self) -> str:
        """Length and width."""
        return f"{len(self.weight)}, {self.weight.shape[1]}"


Positions = Annotated[
    Literal["learnt", "sinusoidal", "none"], Field(description="what is added to tell positions apart")
]


def positions_of(kind: Positions, length: int, width: int) -> nn.Module:
    """The module that adds the positions to (N, T, C)."""
    if kind == "none":
        return nn.Identity()
    return (LearntPositions if kind == "learnt" else SinusoidalPositions)(length, width)


class ClassToken(SequenceModule):
    """One learnt vector in front of every sequence (Devlin et al. 2019, section 3): (N, T, C) to (N, T + 1, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Another initial vector, from torch's global generator."""
        nn.init.normal_(self.weight, std=EMBEDDING_STD)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Put it in front."""
        return torch.cat((self.weight.to(x.dtype).expand(len(x), 1, -1), x), 1)

    def masked(self, mask: Tensor) -> Tensor:
        """The token holds data."""
        return nn.functional.pad(mask, (1, 0), value=True)


class FirstPosition(SequenceModule):
    """(N, T, C) -> (N, C): the first position, where the class token stands."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Select."""
        return x[:, 0]


class MeanOfPositions(SequenceModule):
    """(N, T, C) -> (N, C): the mean over the valid positions; 0 where a sequence has none."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Average."""
        if mask is None:
            return x.mean(1)
        kept = torch.where(mask.unsqueeze(-1), x, 0.0)
        return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


Pool = Annotated[
    Literal["mean", "class_token"],
    Field(description="what a class is read from: the mean of all positions, or a learnt token"),
]


def pool_of(kind: Pool) -> nn.Module:
    """The module that makes one vector of a sequence."""
    return FirstPosition() if kind == "class_token" else MeanOfPositions()
