"""A small plain convolutional network."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import nn

from bnbench.models import models
from bnbench.models.dropout import DropoutOption, add_last, bias_beside, with_dropout
from bnbench.models.layers import Activation, Bias, GlobalAveragePool, NormLayer, NormPosition, conv_block


@models.register("cnn", init="torch", tasks=("image_classification",))
def cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    norm: NormLayer,
    *,
    channels: Annotated[
        list[Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=1, max_length=1000)
    ] = [32, 64, 128],  # noqa: B006
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
    dropout: DropoutOption = None,
) -> nn.Module:
    """Plain 3x3 convolutions, each after the first with stride 2, then global average pooling and Linear.

    channels: output channels of each convolution
    """
    sizes = [input_shape[0], *channels]
    bias = bias_beside(dropout, bias)
    blocks = [
        conv_block(n_in, n_out, norm.first(i), activation, norm_position, stride=2 if i else 1, bias=bias)
        for i, (n_in, n_out) in enumerate(pairwise(sizes))
    ]
    blocks = [with_dropout(block, dropout) for block in blocks]
    model = nn.Sequential()
    model.add_module("blocks", nn.Sequential(*blocks))
    model.add_module("pool", GlobalAveragePool())
    add_last(model, dropout)
    model.add_module("head", nn.Linear(sizes[-1], num_classes))
    return model
