"""A batch norm as one may write it in an exercise: naive, and right."""

import torch
from torch import nn


class BatchNorm(nn.Module):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, per channel, for (N, C), (N, C, L) and (N, C, H, W)."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, input):
        """Normalize over every axis but the channels'; half inputs are computed in float32."""
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        shape = (1, -1, *[1] * (x.dim() - 2))
        if self.training:
            axes = (0, *range(2, x.dim()))
            mean = x.mean(axes)
            var = x.var(axes, unbiased=False)
            self.update(mean.detach(), var.detach(), x.numel() // x.shape[1])
        else:
            mean, var = self.running_mean, self.running_var
        normalized = (x - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + self.eps)
        y = self.gamma.reshape(shape) * normalized + self.beta.reshape(shape)
        return y.to(input.dtype)

    def update(self, mean, var, n):
        """Move the running statistics towards those of a batch of n values per channel."""
        if n < 2:
            raise ValueError("one value per channel, or none, has no variance to normalize with")
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * n / (n - 1), self.momentum)
