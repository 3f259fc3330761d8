"""Batch norm as students write it: one that is right, and one class for every usual mistake, planted alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Right(nn.Module):
    """Naive and right. The mistakes below override one step each."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.make(num_features)

    def make(self, num_features: int) -> None:
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return x.clone()
        dtype = x.dtype
        if dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        axes = self.axes(x)
        if self.uses_batch():
            mean, var = self.statistics(x, axes)
            if self.updates():
                self.update(mean, var, x, axes)
        else:
            mean, var = self.stored(x)
        return self.affine(self.normalize(x, mean, var), x).to(dtype)

    def axes(self, x: Tensor) -> tuple[int, ...]:
        return (0, *range(2, x.dim()))

    def uses_batch(self) -> bool:
        return self.training

    def updates(self) -> bool:
        return self.training

    def statistics(self, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)

    def stored(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.column(self.running_mean, x), self.column(self.running_var, x)

    def column(self, vector: Tensor, x: Tensor) -> Tensor:
        return vector.reshape(1, -1, *[1] * (x.dim() - 2))

    def kept(self, var: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        n = x.numel() // var.numel()
        if n < 2:
            raise ValueError("one value per channel has no variance")
        return var * n / (n - 1)

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor, x: Tensor, axes: tuple[int, ...]) -> None:
        m, shape = self.momentum, self.running_mean.shape
        self.running_mean = (1 - m) * self.running_mean + m * mean.reshape(shape)
        self.running_var = (1 - m) * self.running_var + m * self.kept(var, x, axes).reshape(shape)

    def normalize(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return (x - mean) / torch.sqrt(var + self.eps)

    def affine(self, normalized: Tensor, x: Tensor) -> Tensor:
        return self.column(self.gamma, x) * normalized + self.column(self.beta, x)


class UnbiasedInTraining(Right):
    def statistics(self, x, axes):
        return x.mean(axes, keepdim=True), x.var(axes, keepdim=True)

    def kept(self, var, x, axes):
        return var


class EpsOutside(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / (torch.sqrt(var) + self.eps)


class EpsMissing(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / torch.sqrt(var)


class EpsWritten(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / torch.sqrt(var + 1e-5)


class NoRoot(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / (var + self.eps)


class NoMean(Right):
    def normalize(self, x, mean, var):
        return x / torch.sqrt(var + self.eps)


class _WideStatistics(Right):
    """Running statistics of whatever shape the batch's have."""

    def update(self, mean, var, x, axes):
        with torch.no_grad():
            m = self.momentum
            self.running_mean = (1 - m) * self.column(self.running_mean, x) + m * mean
            self.running_var = (1 - m) * self.column(self.running_var, x) + m * self.kept(var, x, axes)

    def column(self, vector, x):
        return vector if vector.dim() > 1 else super().column(vector, x)


class PerPosition(_WideStatistics):
    def axes(self, x):
        return (0,)


class AllTogether(_WideStatistics):
    def axes(self, x):
        return tuple(range(x.dim()))


class NoWidth(_WideStatistics):
    def axes(self, x):
        return (0, 2) if x.dim() == 4 else super().axes(x)


class LayerNorm(Right):
    """No running statistics: batch statistics always, of each sample."""

    def make(self, num_features):
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))

    def axes(self, x):
        return tuple(range(1, x.dim()))

    def uses_batch(self):
        return True

    def updates(self):
        return False


class Swapped(Right):
    def affine(self, normalized, x):
        return self.column(self.beta, x) * normalized + self.column(self.gamma, x)


class GammaUnused(Right):
    def affine(self, normalized, x):
        return normalized + self.column(self.beta, x)


class BetaFirst(Right):
    def affine(self, normalized, x):
        return self.column(self.gamma, x) * (normalized + self.column(self.beta, x))


class OnePlusGamma(Right):
    def affine(self, normalized, x):
        return (1 + self.column(self.gamma, x)) * normalized + self.column(self.beta, x)


class OnePass(Right):
    def statistics(self, x, axes):
        mean = x.mean(axes, keepdim=True)
        return mean, (x * x).mean(axes, keepdim=True) - mean * mean


class OnePassClamped(Right):
    def statistics(self, x, axes):
        mean = x.mean(axes, keepdim=True)
        return mean, ((x * x).mean(axes, keepdim=True) - mean * mean).clamp_min(0)


class MeanConstant(Right):
    def statistics(self, x, axes):
        return x.mean(axes, keepdim=True).detach(), x.var(axes, unbiased=False, keepdim=True)


class VarConstant(Right):
    def statistics(self, x, axes):
        return x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True).detach()


class BothConstant(Right):
    @torch.no_grad()
    def statistics(self, x, axes):
        return x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)


class Cut(Right):
    def affine(self, normalized, x):
        return super().affine(normalized, x).detach()


class _ByHand(torch.autograd.Function):
    """A backward pass written by hand; `mistake` says what is wrong with it."""

    @staticmethod
    def forward(ctx, x, gamma, beta, eps, mistake):
        axes = (0, *range(2, x.dim()))
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        invstd = torch.rsqrt(var + eps)
        normalized = (x - mean) * invstd
        ctx.save_for_backward(x, mean, normalized, invstd, gamma.reshape(shape))
        ctx.mistake, ctx.axes = mistake, axes
        return gamma.reshape(shape) * normalized + beta.reshape(shape)

    @staticmethod
    def backward(ctx, dy):
        x, mean, normalized, invstd, gamma = ctx.saved_tensors
        axes, mistake = ctx.axes, ctx.mistake
        scale = invstd if mistake == "dx without gamma" else gamma * invstd
        inner = dy - dy.mean(axes, keepdim=True) - normalized * (dy * normalized).mean(axes, keepdim=True)
        factor = {"dgamma centred": (x - mean), "dgamma raw": x}.get(mistake, normalized)
        dgamma, dbeta = (dy * factor).sum(axes), dy.sum(axes)
        n = x.numel() // x.shape[1]
        if mistake == "mean":
            dgamma, dbeta = dgamma / n, dbeta / n
        if mistake == "mean over the batch":
            dgamma, dbeta = dgamma / len(x), dbeta / len(x)
        if mistake == "swapped":
            dgamma, dbeta = dbeta, dgamma
        return scale * inner, dgamma, dbeta, None, None


class ByHand(Right):
    mistake = ""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            super().forward(x)  # moves the statistics
        y = _ByHand.apply(
            x.float() if x.dtype.itemsize == 2 else x, self.gamma, self.beta, self.eps, self.mistake
        )
        return y.to(x.dtype)


class DxWithoutGamma(ByHand):
    mistake = "dx without gamma"


class GradientMeans(ByHand):
    mistake = "mean"


class GradientBatchMeans(ByHand):
    mistake = "mean over the batch"


class DgammaCentred(ByHand):
    mistake = "dgamma centred"


class DgammaRaw(ByHand):
    mistake = "dgamma raw"


class GradientsSwapped(ByHand):
    mistake = "swapped"


class StoredBiased(Right):
    def kept(self, var, x, axes):
        return var


class StoredBySamples(Right):
    def kept(self, var, x, axes):
        super().kept(var, x, axes)
        return var * len(x) / (len(x) - 1) if len(x) > 1 else var


class StoredTwice(Right):
    def kept(self, var, x, axes):
        return super().kept(super().kept(var, x, axes), x, axes)


class StoredDeviation(Right):
    def kept(self, var, x, axes):
        return super().kept(var, x, axes).sqrt()


class MomentumOld(Right):
    """running = momentum * running + (1 - momentum) * batch, as in Keras."""

    @torch.no_grad()
    def update(self, mean, var, x, axes):
        m, shape = self.momentum, self.running_mean.shape
        self.running_mean = m * self.running_mean + (1 - m) * mean.reshape(shape)
        self.running_var = m * self.running_var + (1 - m) * self.kept(var, x, axes).reshape(shape)


class KerasLike(MomentumOld):
    """Right by Keras' conventions: the biased variance is kept, and momentum is the old value's weight."""

    def __init__(self, num_features: int, epsilon: float = 1e-3, momentum: float = 0.99) -> None:
        super().__init__(num_features, epsilon, momentum)

    def kept(self, var, x, axes):
        return var


class MomentumWritten(Right):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, 0.1)


class LastBatch(Right):
    @torch.no_grad()
    def update(self, mean, var, x, axes):
        self.running_mean = mean.detach().flatten()
        self.running_var = self.kept(var.detach(), x, axes).flatten()


class NeverMoves(Right):
    def update(self, mean, var, x, axes):
        self.kept(var, x, axes)


class Summed(Right):
    @torch.no_grad()
    def update(self, mean, var, x, axes):
        self.running_mean = self.running_mean + self.momentum * mean.flatten()
        self.running_var = self.running_var + self.momentum * self.kept(var, x, axes).flatten()


class Averaged(Right):
    def make(self, num_features):
        super().make(num_features)
        self.steps = 0

    @torch.no_grad()
    def update(self, mean, var, x, axes):
        self.steps += 1
        new = 1 / self.steps
        self.running_mean = (1 - new) * self.running_mean + new * mean.flatten()
        self.running_var = (1 - new) * self.running_var + new * self.kept(var, x, axes).flatten()


class Twice(Right):
    def update(self, mean, var, x, axes):
        super().update(mean, var, x, axes)
        super().update(mean, var, x, axes)


class NotDetached(Right):
    def update(self, mean, var, x, axes):
        m = self.momentum
        self.running_mean = (1 - m) * self.running_mean + m * mean.flatten()
        self.running_var = (1 - m) * self.running_var + m * self.kept(var, x, axes).flatten()


class RunningInTraining(Right):
    def statistics(self, x, axes):
        return self.column(torch.zeros(x.shape[1]), x), self.column(torch.ones(x.shape[1]), x)

    def update(self, mean, var, x, axes):
        super().update(*super().statistics(x, axes), x, axes)


class BatchInEval(Right):
    def uses_batch(self):
        return True


class UpdatesInEval(Right):
    def forward(self, x):
        y = super().forward(x)
        if not self.training:
            with torch.no_grad():
                self.running_mean = 0.9 * self.running_mean + 0.1 * x.double().mean(self.axes(x)).float()
        return y


class CorrectedInEval(Right):
    def stored(self, x):
        mean, var = super().stored(x)
        n = x.numel() // x.shape[1]
        return mean, var * n / max(n - 1, 1)


class ByGradMode(Right):
    """As an old edition of a well-known textbook has it: eval is when no gradients are recorded."""

    def uses_batch(self):
        return torch.is_grad_enabled()

    def updates(self):
        return torch.is_grad_enabled()


class NotParameters(Right):
    def make(self, num_features):
        super().make(num_features)
        del self.gamma, self.beta
        self.gamma = torch.ones(num_features, requires_grad=True)
        self.beta = torch.zeros(num_features, requires_grad=True)


class NotBuffers(Right):
    def make(self, num_features):
        super().make(num_features)
        del self.running_mean, self.running_var
        self.moving_mean, self.moving_var = torch.zeros(num_features), torch.ones(num_features)

    def stored(self, x):
        return self.column(self.moving_mean, x), self.column(self.moving_var, x)

    @torch.no_grad()
    def update(self, mean, var, x, axes):
        m = self.momentum
        self.moving_mean = (1 - m) * self.moving_mean + m * mean.flatten()
        self.moving_var = (1 - m) * self.moving_var + m * self.kept(var, x, axes).flatten()


class GammaZero(Right):
    def make(self, num_features):
        super().make(num_features)
        nn.init.zeros_(self.gamma)


class VarZero(Right):
    def make(self, num_features):
        super().make(num_features)
        self.running_var.zero_()


class CounterStuck(Right):
    def make(self, num_features):
        super().make(num_features)
        self.register_buffer("num_batches_tracked", torch.tensor(0))


class HalfNotGivenBack(Right):
    def forward(self, x):
        y = super().forward(x)
        return y.float() if y.dtype.itemsize == 2 else y


class HalfStatistics(Right):
    def statistics(self, x, axes):
        return x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)

    def forward(self, x):
        if x.dtype.itemsize != 2 or not self.training:
            return super().forward(x)
        axes = self.axes(x)
        mean, var = self.statistics(x, axes)
        self.update(mean, var, x, axes)
        return self.affine(self.normalize(x, mean, var), x).to(x.dtype)


class SingleOnly(Right):
    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


class InPlace(Right):
    def normalize(self, x, mean, var):
        x -= mean
        return x / torch.sqrt(var + self.eps)


class OneValueGivesNan(Right):
    def kept(self, var, x, axes):
        return x.var(axes, keepdim=True)


class View(Right):
    def forward(self, x):
        x.view(len(x), -1)
        return super().forward(x)


# Two mistakes at once


class UnbiasedAndMeanConstant(UnbiasedInTraining):
    def statistics(self, x, axes):
        mean, var = super().statistics(x, axes)
        return mean.detach(), var


class EpsOutsideAndStoredBiased(EpsOutside, StoredBiased):
    pass


class SwappedAndEpsOutside(Swapped, EpsOutside):
    pass


class MomentumOldAndStoredBiased(MomentumOld, StoredBiased):
    pass


class Shifted(Right):
    """A mistake that nobody else makes: no usual cause may be named."""

    def normalize(self, x, mean, var):
        return (x - 1.37 * mean) / torch.sqrt(var + self.eps) ** 0.9


# Layers that have less, or misbehave


class Plain(nn.Module):
    """Neither gamma and beta nor running statistics; 2-D alone."""

    def __init__(self, num_features):
        super().__init__()

    def forward(self, x):
        assert x.dim() == 2
        z = x.to(torch.promote_types(x.dtype, torch.float32))
        return ((z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + 1e-5)).to(x.dtype)


class Raises(nn.Module):
    def __init__(self, num_features):
        super().__init__()

    def forward(self, x):
        raise RuntimeError("shapes don't match\nand a second line")


class RaisesInEval(Right):
    def stored(self, x):
        raise KeyError("no statistics")


class ReturnsNan(Right):
    def affine(self, normalized, x):
        return super().affine(normalized, x) * float("nan")


class WrongShape(Right):
    def forward(self, x):
        return super().forward(x)[:, :2]


class ReturnsTuple(Right):
    def forward(self, x):
        return super().forward(x), 1


class Prints(Right):
    def forward(self, x):
        print("forward!")
        return super().forward(x)


class NeedsMore(nn.Module):
    def __init__(self, num_features, groups, axis=1):
        super().__init__()


class TakesNothing(nn.Module):
    pass


class BreaksWhenMade(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.x = 1 / 0


def factory(num_features, dim, eps=1e-5, momentum=0.1):
    return (nn.BatchNorm1d if dim == 1 else nn.BatchNorm2d)(num_features, eps, momentum)


def not_a_layer(num_features):
    return num_features


instance = nn.BatchNorm1d(3)
number = 3


class Textbook(nn.Module):
    """Called as in a textbook: num_dims is the number of axes, 2 or 4, and the vectors have that shape."""

    def __init__(self, num_features, num_dims):
        super().__init__()
        shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("moving_mean", torch.zeros(shape))
        self.register_buffer("moving_var", torch.ones(shape))

    def forward(self, x):
        z = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = (0,) if z.dim() == 2 else (0, 2, 3)
        if self.training:
            n = z.numel() // z.shape[1]
            mean, var = z.mean(axes, keepdim=True), z.var(axes, unbiased=False, keepdim=True)
            if n < 2:
                raise ValueError("one value")
            with torch.no_grad():
                self.moving_mean += 0.1 * (mean - self.moving_mean)
                self.moving_var += 0.1 * (var * n / (n - 1) - self.moving_var)
        else:
            mean, var = self.moving_mean, self.moving_var
        return (self.gamma * (z - mean) / torch.sqrt(var + 1e-5) + self.beta).to(x.dtype)
