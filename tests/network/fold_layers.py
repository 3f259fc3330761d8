"""Layers and small networks of the fold traps, as users write them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Net(nn.Module):
    """Modules by name, and a forward as a function of the network and its input."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.steps = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, x)


class BatchNormAct(nn.BatchNorm2d):
    """A batch norm with its dropout and activation, as timm's BatchNormAct2d has them."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.drop = nn.Dropout(0.3)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class OwnRMSNorm(nn.Module):
    """x / rms(x) * (offset + weight), through float32, as Hugging Face's LLaMA (offset 0) and Gemma (1) do it."""

    def __init__(self, size: int, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size) - offset)
        self.offset, self.eps = offset, 1e-6

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * (self.offset + self.weight)


class StandardizedConv(nn.Conv2d):
    """A convolution whose weight is standardized in each forward pass (Qiao et al. 2019, arXiv 1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Doubling(nn.Conv2d):
    """A convolution that multiplies its output: its bias is multiplied, too."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class PaddingConv(nn.Conv2d):
    """A convolution that pads by itself, as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias)


class Attention(nn.Module):
    """Self-attention over what a norm gives."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        out: Tensor = self.attention(y, y, y, need_weights=False)[0]
        return x + out


def shuffled(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's channel shuffle."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics, gammas and betas that no fold gets right by chance; gammas of both signs."""
    draw = torch.Generator().manual_seed(seed)

    def between(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=draw, dtype=torch.float64)

    with torch.no_grad():
        for module in model.modules():
            mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
            if isinstance(mean, Tensor) and isinstance(var, Tensor):
                mean.copy_(between(mean, -1, 1))
                var.copy_(between(var, 0.3, 2))
            if is_norm(module):
                for name, low, high in (("weight", 0.4, 1.6), ("bias", -1, 1)):
                    value = getattr(module, name, None)
                    if isinstance(value, Tensor):
                        signs = between(value, -1, 1).sign() if name == "weight" else 1.0
                        value.copy_(between(value, low, high) * signs)
    return model


def is_norm(module: nn.Module) -> bool:
    """By its name: this is for the traps' own networks."""
    return "norm" in type(module).__name__.lower()
