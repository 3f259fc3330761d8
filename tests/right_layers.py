"""Batch norms that are right, each written in another way: all of them pass the mathematics."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Einsum(nn.Module):
    """Statistics by einsum over (N, C, L)."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma, self.beta = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        flat = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)
        n = flat.shape[0] * flat.shape[2]
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean = torch.einsum("ncl->c", flat) / n
            d = flat - mean[:, None]
            var = torch.einsum("ncl,ncl->c", d, d) / n
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * n / (n - 1), self.momentum)
        y = torch.einsum("ncl,c->ncl", flat - mean[:, None], self.gamma * torch.rsqrt(var + self.eps))
        return (y + self.beta[:, None]).reshape(x.shape)


class VarMean(nn.Module):
    """torch.var_mean, with correction twice; vectors (1, C, 1, 1); images alone, by broadcasting."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        shape = (1, num_features, 1, 1)
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def forward(self, x):
        if not self.training:
            return self.weight * (x - self.running_mean) / (self.running_var + self.eps).sqrt() + self.bias
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        self.running_mean = torch.lerp(self.running_mean, mean.detach(), self.momentum)
        unbiased = x.detach().var((0, 2, 3), correction=1, keepdim=True)
        self.running_var = torch.lerp(self.running_var, unbiased, self.momentum)
        return self.weight * (x - mean) / (var + self.eps).sqrt() + self.bias


class OnePassDouble(nn.Module):
    """E[x²] - E[x]², in float64."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.g, self.b = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.register_buffer("mu", torch.zeros(num_features))
        self.register_buffer("sigma2", torch.ones(num_features))

    def forward(self, x):
        shape, axes, z = (1, -1, *[1] * (x.dim() - 2)), (0, *range(2, x.dim())), x.double()
        mean, var = self.mu.double(), self.sigma2.double()
        if self.training:
            n = x.numel() // x.shape[1]
            mean = z.mean(axes)
            var = (z * z).mean(axes) - mean * mean
            self.mu += self.momentum * (mean.detach().to(self.mu.dtype) - self.mu)
            self.sigma2 += self.momentum * ((var.detach() * n / (n - 1)).to(self.mu.dtype) - self.sigma2)
        y = (z - mean.view(shape)) / torch.sqrt(var.view(shape) + self.eps)
        return (self.g.view(shape) * y + self.b.view(shape)).to(x.dtype)


class Functional(nn.Module):
    """F.batch_norm with buffers of other names."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.alef, self.bet = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.register_buffer("gimel", torch.zeros(num_features))
        self.register_buffer("dalet", torch.ones(num_features))

    def forward(self, x):
        return F.batch_norm(
            x, self.gimel, self.dalet, self.alef, self.bet, self.training, self.momentum, self.eps
        )


class ByInstanceNorm(nn.Module):
    """All samples side by side as one: (1, C, N * L)."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.inner = nn.InstanceNorm1d(num_features, eps, momentum, affine=True, track_running_stats=True)

    def forward(self, x):
        rows = x.transpose(0, 1).reshape(1, x.shape[1], -1)
        return self.inner(rows).reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


class NumpyStyle(nn.Module):
    """Forward and backward in NumPy, as in a course on backpropagation; (N, C) alone."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma, self.beta = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )
        self.running_mean, self.running_var = np.zeros(num_features), np.ones(num_features)

    def forward(self, x):
        assert x.dim() == 2
        if not self.training:
            mean, var = (torch.from_numpy(v).to(x.dtype) for v in (self.running_mean, self.running_var))
            return self.gamma * (x - mean) / torch.sqrt(var + self.eps) + self.beta
        values = x.detach().double().numpy()
        m = self.momentum
        self.running_mean = (1 - m) * self.running_mean + m * values.mean(0)
        self.running_var = (1 - m) * self.running_var + m * values.var(0, ddof=1)
        return _Numpy.apply(x, self.gamma, self.beta, self.eps)


class _Numpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        values, g, b = (t.detach().double().numpy() for t in (x, gamma, beta))
        std = np.sqrt(values.var(0) + eps)
        hat = (values - values.mean(0)) / std
        ctx.saved = hat, std, g
        return torch.from_numpy(g * hat + b).to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        hat, std, g = ctx.saved
        d = dy.double().numpy()
        dx = g / std * (d - d.mean(0) - hat * (d * hat).mean(0))
        grads = dx, (d * hat).sum(0), d.sum(0)
        return (*(torch.from_numpy(grad).to(dy.dtype) for grad in grads), None)


class D2l(nn.Module):
    """As a well-known textbook has it, with num_dims; eps and momentum are written in, statistics are plain."""

    def __init__(self, num_features, num_dims):
        super().__init__()
        shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.moving_mean, self.moving_var = torch.zeros(shape), torch.ones(shape)

    def forward(self, x):
        assert x.dim() in (2, 4)
        if not self.training:
            return self.gamma * (x - self.moving_mean) / torch.sqrt(self.moving_var + 2e-4) + self.beta
        axes = (0,) if x.dim() == 2 else (0, 2, 3)
        n = x.numel() // x.shape[1]
        mean = x.mean(axes, keepdim=True)
        var = ((x - mean) ** 2).mean(axes, keepdim=True)
        with torch.no_grad():
            self.moving_mean = 0.95 * self.moving_mean + 0.05 * mean
            self.moving_var = 0.95 * self.moving_var + 0.05 * var * n / (n - 1)
        return self.gamma * (x - mean) / torch.sqrt(var + 2e-4) + self.beta


class FoldedAffine(nn.Module):
    """One multiply and one add: a = gamma / std, y = a x + (beta - a mean); eps a buffer, gamma frozen in a list."""

    def __init__(self, num_features, epsilon=1e-5, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.params = nn.ParameterDict(
            {"scale": torch.ones(num_features, 1), "offset": torch.zeros(num_features, 1)}
        )
        self.register_buffer("epsilon", torch.tensor(epsilon))
        self.stats = nn.Module()
        self.stats.register_buffer("mean", torch.zeros(num_features, 1))
        self.stats.register_buffer("var", torch.ones(num_features, 1))

    def forward(self, x):
        rows = x.transpose(0, 1).reshape(x.shape[1], -1)
        mean, var = self.stats.mean, self.stats.var
        if self.training:
            mean = rows.mean(1, keepdim=True)
            rows = rows - mean.detach()  # for its digits
            centre = mean - mean.detach()
            var = (rows - centre).square().mean(1, keepdim=True)
            with torch.no_grad():
                n = rows.shape[1]
                self.stats.mean.mul_(1 - self.momentum).add_(self.momentum * mean)
                self.stats.var.mul_(1 - self.momentum).add_(self.momentum * var * n / (n - 1))
            mean = centre
        a = self.params["scale"] / torch.sqrt(var + self.epsilon)
        y = a * (rows - mean) + self.params["offset"]
        return y.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


class Matmul(nn.Module):
    """Averages by multiplication with a vector of ones."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        rows = x.movedim(1, -1).reshape(-1, x.shape[1])
        mean, var = self.running_mean, self.running_var
        if self.training:
            ones = torch.full((1, len(rows)), 1 / len(rows), dtype=x.dtype)
            mean = (ones @ rows)[0]
            var = (ones @ (rows - mean) ** 2)[0]
            with torch.no_grad():
                self.running_mean += self.momentum * (mean - self.running_mean)
                self.running_var += self.momentum * (var * len(rows) / (len(rows) - 1) - self.running_var)
        y = self.weight * (rows - mean) * (var + self.eps) ** -0.5 + self.bias
        return y.reshape(*x.shape[:1], *x.shape[2:], x.shape[1]).movedim(-1, 1)


class DimBranches(nn.Module):
    """Torch's own layers inside, made for the dim; the names of the parameters are two levels down."""

    def __init__(self, num_features, dim, eps=1e-5, momentum=0.1):
        super().__init__()
        kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dim]
        self.body = nn.Sequential(nn.Sequential(kind(num_features, eps, momentum)), nn.Identity())

    def forward(self, x):
        return self.body(x)


class HiddenStatistics(nn.Module):
    """Running statistics as Python numbers in a plain object: no tensor of the layer shows them."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )
        self.memory = {"mean": [0.0] * num_features, "var": [1.0] * num_features}

    def forward(self, x):
        axes, n = (0, *range(2, x.dim())), x.numel() // x.shape[1]
        shape = (1, -1, *[1] * (x.dim() - 2))
        if self.training:
            mean, var = x.mean(axes), x.var(axes, unbiased=False)
            m = self.momentum
            for key, new in (("mean", mean), ("var", var * n / (n - 1))):
                self.memory[key] = [
                    (1 - m) * a + m * b for a, b in zip(self.memory[key], new.tolist(), strict=True)
                ]
        else:
            mean, var = (torch.tensor(self.memory[key], dtype=x.dtype) for key in ("mean", "var"))
        y = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + self.eps)
        return self.weight.view(shape) * y + self.bias.view(shape)


class ImagesByBroadcast(nn.Module):
    """Right for images; (N, C) broadcasts to (1, C, N, C), which is no output."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        self.register_buffer("running_mean", torch.zeros(1, num_features, 1, 1))
        self.register_buffer("running_var", torch.ones(1, num_features, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4 and self.training:
            mean = x.mean((0, 2, 3), keepdim=True)
            var = x.var((0, 2, 3), unbiased=False, keepdim=True)
            n = x.numel() // x.shape[1]
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * n / (n - 1), self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        return self.weight * (x - mean) / torch.sqrt(var + self.eps) + self.bias


class Cumulative(nn.Module):
    """momentum=None and nothing else: the plain average over all batches."""

    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.inner = nn.BatchNorm1d(num_features, eps, momentum=None)

    def forward(self, x):
        return self.inner(x)


class Cached(nn.Module):
    """No running statistics, but the batch's are kept for a look: self.mean, self.var."""

    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )

    def forward(self, x):
        shape, axes = (1, -1, *[1] * (x.dim() - 2)), (0, *range(2, x.dim()))
        self.mean, self.var = x.mean(axes), x.var(axes, unbiased=False)
        y = (x - self.mean.view(shape)) / torch.sqrt(self.var.view(shape) + self.eps)
        return self.weight.view(shape) * y + self.bias.view(shape)


class StackedStatistics(nn.Module):
    """One buffer (2, C) holds both running statistics."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.learnt = nn.ParameterDict(
            {"gamma": nn.Parameter(torch.ones(num_features)), "beta": nn.Parameter(torch.zeros(num_features))}
        )
        self.register_buffer("kept", torch.stack([torch.zeros(num_features), torch.ones(num_features)]))

    def forward(self, x):
        return _functional(self, x, *self.kept, self.learnt["gamma"], self.learnt["beta"])


class OddNames(nn.Module):
    """Parameters by the names of statistics, and statistics by the names of parameters."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.variance, self.mean = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )
        self.register_buffer("w", torch.zeros(num_features))
        self.register_buffer("b", torch.ones(num_features))

    def forward(self, x):
        return _functional(self, x, self.w, self.b, self.variance, self.mean)


class NoneAtFirst(nn.Module):
    """Running statistics that are None until the first batch, and then plain tensors."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma, self.beta = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )
        self.running_mean = self.running_var = None

    def forward(self, x):
        if self.running_mean is None:
            self.running_mean = torch.zeros_like(self.gamma.detach())
            self.running_var = torch.ones_like(self.running_mean)
        return _functional(self, x, self.running_mean, self.running_var, self.gamma, self.beta)


class SingleOnly(nn.Module):
    """Statistics in a list, which .to(float64) does not reach: float64 is refused."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma, self.beta = (
            nn.Parameter(torch.ones(num_features)),
            nn.Parameter(torch.zeros(num_features)),
        )
        self.statistics = [torch.zeros(num_features), torch.ones(num_features)]

    def forward(self, x):
        return _functional(self, x, *self.statistics, self.gamma, self.beta)


class Lazy(nn.LazyBatchNorm2d):
    """Its parameters have no shape before the first input."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(eps, momentum)


def _functional(layer, x, mean, var, gamma, beta):
    return nn.functional.batch_norm(x, mean, var, gamma, beta, layer.training, layer.momentum, layer.eps)
