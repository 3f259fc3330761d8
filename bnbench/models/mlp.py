"""Multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated

from pydantic import Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.models import models
from bnbench.models.dropout import DropoutOption, add_last, bias_beside, with_dropout
from bnbench.models.layers import Activation, Bias, NormLayer, NormPosition, linear_block

Units = Annotated[int, Field(ge=1, le=1_000_000)]


@models.register("mlp", init="torch", tasks=("image_classification", "tabular", "tabular_regression"))
def mlp(
    input_shape: tuple[int, int, int],
    num_classes: int,
    norm: NormLayer,
    *,
    hidden: Annotated[list[Units], Field(max_length=1000)] | Units = [64],  # noqa: B006
    depth: Annotated[int, Field(ge=1, le=1000)] | None = None,
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
    dropout: DropoutOption = None,
) -> nn.Module:
    """Fully connected: Linear, norm, activation for each hidden size, then Linear.

    hidden: units of each hidden layer: a list, or one number with a depth
    depth: hidden layers, where hidden is one number
    """
    if isinstance(hidden, int):
        hidden = [hidden] * (depth or 1)
    if not hidden and norm.entry.name != "none":
        raise BnbenchError(
            f"model.hidden: [] has no layer that norm {norm.entry.name} could stand after.",
            "The network would be the same for every norm.",
            "model.hidden: [64], or norm: none.",
        )
    sizes = [prod(input_shape), *hidden]
    bias = bias_beside(dropout, bias)
    blocks = [
        with_dropout(linear_block(n_in, n_out, norm.first(i), activation, norm_position, bias), dropout)
        for i, (n_in, n_out) in enumerate(pairwise(sizes))
    ]
    model = nn.Sequential()
    model.add_module("flatten", nn.Flatten())
    model.add_module("blocks", nn.Sequential(*blocks))
    add_last(model, dropout)
    model.add_module("head", nn.Linear(sizes[-1], num_classes))
    return model
