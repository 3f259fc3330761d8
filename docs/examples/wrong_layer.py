"""The same exercise with five usual mistakes. Find them, then ask `bnbench verify`."""

import torch
from torch import nn


class BatchNorm(nn.Module):
    """Runs, trains, and looks right."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.running_mean = torch.zeros(num_features)
        self.running_var = torch.ones(num_features)

    def forward(self, input):
        """Normalize over every axis but the channels'."""
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        shape = (1, -1, *[1] * (x.dim() - 2))
        if self.training:
            if x.numel() < 2 * x.shape[1]:
                raise ValueError("one value per channel, or none, has no variance to normalize with")
            axes = (0, *range(2, x.dim()))
            with torch.no_grad():
                mean, var = x.mean(axes), x.var(axes, unbiased=False)
                self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
                self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            mean, var = self.running_mean, self.running_var
        normalized = (x - mean.reshape(shape)) / (torch.sqrt(var.reshape(shape)) + self.eps)
        y = self.gamma.reshape(shape) * normalized + self.beta.reshape(shape)
        return y.to(input.dtype)
