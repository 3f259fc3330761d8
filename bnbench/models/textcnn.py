"""Convolutions of several widths over a text (Kim 2014, arXiv 1408.5882, section 2)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.dropout import DropoutOption, add_last, bias_beside, with_dropout
from bnbench.models.layers import (
    Activation,
    Bias,
    Block,
    NormLayer,
    NormPosition,
    assembled,
    bias_needed,
    classifier,
)
from bnbench.models.sequences import SequenceModule, embedding, sequential, through


class TimeConvolution(SequenceModule):
    """A convolution along a sequence: (N, T, C) to (N, T, outputs), zeros at both ends and at padding."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """conv: with a kernel (K, 1) and without padding of its own."""
        super().__init__()
        self.conv = conv
        before = (conv.kernel_size[0] - 1) // 2
        self.ends = (0, 0, before, conv.kernel_size[0] - 1 - before)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve. mask: (N, T), True where valid."""
        if mask is not None:
            x = torch.where(mask.unsqueeze(-1), x, 0.0)
        x = nn.functional.pad(x, self.ends)
        y: Tensor = self.conv(x.transpose(1, 2).unsqueeze(-1))
        return y.squeeze(-1).transpose(1, 2)


class MaxOfPositions(SequenceModule):
    """(N, T, C) -> (N, C): the largest value of each channel over the valid positions; 0 where there is none."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maximum over time (Collobert et al. 2011)."""
        if mask is None:
            return x.amax(1)
        held = mask.unsqueeze(-1)
        return torch.where(held.any(1), torch.where(held, x, -torch.inf).amax(1), 0.0)


class Branches(SequenceModule):
    """Sequential modules side by side on one sequence, and what they give, (N, C) each, in one vector."""

    def __init__(self, *branches: nn.Sequential) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Each of the branches."""
        if mask is None:
            return torch.cat([branch(x) for branch in self.branches], 1)
        return torch.cat([through(branch.children(), x, mask)[0] for branch in self.branches], 1)


@models.register("textcnn", init="torch", tasks=("text_classification",))
def textcnn(
    sizes: Sizes,
    norm: NormLayer,
    *,
    width: Annotated[int, Field(ge=1, le=100_000, description="values of a token's embedding")] = 64,
    kernels: Annotated[
        list[Annotated[int, Field(ge=1, le=1000)]],
        Field(
            min_length=1, max_length=100, description="how many positions each convolution looks at together"
        ),
    ] = [3, 4, 5],  # noqa: B006
    channels: Annotated[
        int, Field(ge=1, le=100_000, description="outputs of the convolution of each kernel")
    ] = 64,
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
    dropout: DropoutOption = None,
) -> nn.Module:
    """Convolutions of several widths over a text, the maximum over time of each, and Linear (Kim 2014).

    As in the paper, but the sequence keeps its length (zeros at both ends), embeddings start at random, and dropout
    and the limit on the last layer's norm are left out unless the study asks for dropout.
    """
    bias = bias_beside(dropout, bias)
    branches = []
    for kernel in kernels:
        needed = bias == "always" or bias_needed(norm, activation, norm_position)
        conv = nn.Conv2d(width, channels, (kernel, 1), bias=needed)
        block = _block(conv, norm, activation, norm_position)
        branches.append(nn.Sequential(with_dropout(block, dropout), MaxOfPositions()))
    model = sequential(sizes)
    model.add_module("embedding", embedding(sizes, width, norm, bias=True, std=1.0))
    model.add_module("branches", Branches(*branches))
    add_last(model, dropout)
    model.add_module("head", classifier(channels * len(kernels), sizes.num_outputs, norm))
    return model


def _block(conv: nn.Conv2d, norm: NormLayer, activation: Activation, norm_position: NormPosition) -> Block:
    layer = norm.tokens(conv.out_channels)
    weights = TimeConvolution(norm.weights(conv, activation))
    return assembled("conv", weights, norm, layer, activation, norm_position)
