"""VGG-11 at CIFAR size, of any width."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from bnbench.models import models
from bnbench.models.dropout import DropoutOption, add_last, bias_beside, with_dropout
from bnbench.models.layers import Activation, Bias, GlobalAveragePool, NormLayer, NormPosition, conv_block

# Configuration A of Simonyan & Zisserman (2014), table 1: channels of each convolution, "M" a 2x2 maximum.
# By the width: 64 in the paper.
_VGG11 = (1, "M", 2, "M", 4, 4, "M", 8, 8, "M", 8, 8, "M")


@models.register("vgg", init="he", tasks=("image_classification",))
def vgg(
    input_shape: tuple[int, int, int],
    num_classes: int,
    norm: NormLayer,
    *,
    width: Annotated[int, Field(ge=1, le=10_000)] = 64,
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
    dropout: DropoutOption = None,
) -> nn.Module:
    """VGG-11 (Simonyan & Zisserman 2014) at any width, with one Linear on top, as is usual for 32x32 images.

    width: channels of the first convolution, 64 in the paper; the last has eight times as many
    """
    bias = bias_beside(dropout, bias)
    features = nn.Sequential()
    channels = input_shape[0]
    for index, factor in enumerate(_VGG11):
        if isinstance(factor, int):
            block = conv_block(
                channels, factor * width, norm.first(index), activation, norm_position, bias=bias
            )
            features.add_module(str(index), with_dropout(block, dropout))
            channels = factor * width
        else:
            # rounding up lets 28x28 and 8x8 images through all five
            features.add_module(str(index), nn.MaxPool2d(2, ceil_mode=True))
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("pool", GlobalAveragePool())
    add_last(model, dropout)
    model.add_module("head", nn.Linear(channels, num_classes))
    return model


@models.register("vgg11", init="he", tasks=("image_classification",))
def vgg11(input_shape: tuple[int, int, int], num_classes: int, norm: NormLayer) -> nn.Module:
    """VGG-11 (Simonyan & Zisserman 2014): `vgg` at the width of the paper."""
    return vgg(input_shape, num_classes, norm)
