"""The network of the PyTorch rivals: 784-64-norm-ReLU-10, from torch.nn as it comes.

The hand-written batch norm is the one that textbooks print (Zhang et al., Dive into Deep Learning,
section "Batch Normalization", "Implementation from Scratch"): plain operations, autograd does the rest.
"""

from __future__ import annotations

import torch
from shared import EPS, HIDDEN, MOMENTUM
from torch import Tensor, nn


class NaiveBatchNorm(nn.Module):
    """Batch normalization over (N, C), operation by operation."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("moving_mean", torch.zeros(num_features))
        self.register_buffer("moving_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.gamma * (x - self.moving_mean) / torch.sqrt(self.moving_var + EPS) + self.beta
        mean = x.mean(dim=0)
        var = ((x - mean) ** 2).mean(dim=0)
        with torch.no_grad():
            self.moving_mean = (1.0 - MOMENTUM) * self.moving_mean + MOMENTUM * mean
            self.moving_var = (1.0 - MOMENTUM) * self.moving_var + MOMENTUM * var
        return self.gamma * (x - mean) / torch.sqrt(var + EPS) + self.beta


def mlp(variant: str) -> nn.Sequential:
    """A bias before a batch norm has no effect: only `none` has one, as in bnbench."""
    norms = {"none": nn.Identity, "custom": NaiveBatchNorm, "builtin": nn.BatchNorm1d}
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, HIDDEN, bias=variant == "none"),
        norms[variant](HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, 10),
    )
