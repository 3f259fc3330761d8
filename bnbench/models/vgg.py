"""VGG-11 at CIFAR size."""

from __future__ import annotations

from torch import nn

from bnbench.models import models
from bnbench.models.layers import GlobalAveragePool, NormLayer, conv_block

# Configuration A of Simonyan & Zisserman (2014), table 1: channels of each convolution, "M" a 2x2 maximum.
_VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


@models.register("vgg11", init="he")
def vgg11(input_shape: tuple[int, int, int], num_classes: int, norm: NormLayer) -> nn.Module:
    """VGG-11 (Simonyan & Zisserman 2014) with one Linear on top, as is usual for 32x32 images."""
    features = nn.Sequential()
    channels = input_shape[0]
    for index, size in enumerate(_VGG11):
        if isinstance(size, int):
            features.add_module(str(index), conv_block(channels, size, norm))
            channels = size
        else:
            # rounding up lets 28x28 and 8x8 images through all five
            features.add_module(str(index), nn.MaxPool2d(2, ceil_mode=True))
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("pool", GlobalAveragePool())
    model.add_module("head", nn.Linear(channels, num_classes))
    return model
