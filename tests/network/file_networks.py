"""Small networks that are saved, with another normalizer and random values."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bnbench.models.layers import NormLayer
from bnbench.norms import norms


@dataclass
class Done:
    """As a conversion or a folding looks to `save`."""

    model: Any
    sites: tuple = ()
    proofs: tuple = ()


def network():
    torch.manual_seed(0)
    block = OrderedDict(conv=nn.Conv2d(4, 4, 3, padding=1, bias=False), bn=nn.BatchNorm2d(4), act=nn.ReLU())
    parts = [("stem", nn.Conv2d(3, 4, 3)), ("block", nn.Sequential(block)), ("pool", nn.AdaptiveAvgPool2d(1))]
    return nn.Sequential(OrderedDict([*parts, ("flat", nn.Flatten()), ("fc", nn.Linear(4, 3))]))


def norm(name, features=4, dim=2, **options):
    entry = norms.get(name)
    return NormLayer(entry, entry.typed(options))(features, dim)


def randomise(model):
    draw = torch.Generator().manual_seed(1)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=draw, dtype=torch.float64) + 0.5)
        else:
            tensor.fill_(2**40 + 1)
    return model


def converted(layer):
    """Another normalizer in the place of the batch norm, and its bias back."""
    model = network()
    model.block.bn = layer
    model.block.conv.bias = nn.Parameter(torch.zeros(4))
    return randomise(model)
