"""More mistakes, each planted alone in an otherwise right layer (student_layers.py has the usual ones)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from student_layers import Right
from torch import nn


class EpsOdd(Right):
    """eps is taken, and another one is written in."""

    def normalize(self, x, mean, var):
        return (x - mean) / torch.sqrt(var + 3.7e-6)


class MomentumOdd(Right):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, 0.037)


class EpsOutsideWritten(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / (torch.sqrt(var) + 2e-3)


class FirstReplaces(Right):
    def make(self, num_features):
        super().make(num_features)
        self.steps = 0

    @torch.no_grad()
    def update(self, mean, var, x, axes):
        m = 1.0 if self.steps == 0 else self.momentum
        self.steps += 1
        self.running_mean = (1 - m) * self.running_mean + m * mean.flatten()
        self.running_var = (1 - m) * self.running_var + m * self.kept(var, x, axes).flatten()


class DebiasedStored(Right):
    """running statistics = average from 0 / (1 - (1 - momentum)^t)."""

    def make(self, num_features):
        super().make(num_features)
        self.steps, self.sums = 0, [torch.zeros(num_features), torch.zeros(num_features)]

    @torch.no_grad()
    def update(self, mean, var, x, axes):
        self.steps += 1
        m = self.momentum
        new = [mean.flatten(), self.kept(var, x, axes).flatten()]
        self.sums = [(1 - m) * old.to(v.dtype) + m * v for old, v in zip(self.sums, new, strict=True)]
        self.running_mean, self.running_var = (s / (1 - (1 - m) ** self.steps) for s in self.sums)


class DebiasedInEval(Right):
    def make(self, num_features):
        super().make(num_features)
        self.steps = 0

    def update(self, mean, var, x, axes):
        self.steps += 1
        super().update(mean, var, x, axes)

    def stored(self, x):
        mean, var = super().stored(x)
        left = 1 - (1 - self.momentum) ** self.steps if self.steps else 1
        return mean / left, var / left


class InverseStored(Right):
    """running_var holds 1/std."""

    def kept(self, var, x, axes):
        super().kept(var, x, axes)
        return torch.rsqrt(var + self.eps)


class InverseThroughout(InverseStored):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        y = (x - self.column(self.running_mean, x)) * self.column(self.running_var, x)
        return self.affine(y, x)


class DeviationThroughout(Right):
    def kept(self, var, x, axes):
        return super().kept(var, x, axes).sqrt()

    def forward(self, x):
        if self.training:
            return super().forward(x)
        y = (x - self.column(self.running_mean, x)) / self.column(self.running_var, x)
        return self.affine(y, x)


class DividesByRsqrt(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / torch.rsqrt(var + self.eps)


class Activated(Right):
    """An activation at the end; which one is the class's."""

    act = staticmethod(torch.relu)

    def affine(self, normalized, x):
        return self.act(super().affine(normalized, x))


class ActivatedTanh(Activated):
    act = staticmethod(torch.tanh)


class ActivatedGelu(Activated):
    act = staticmethod(F.gelu)


class ActivatedLeaky(Activated):
    act = staticmethod(lambda y: F.leaky_relu(y, 0.2))


class LastAxis(nn.Module):
    """Features on the last axis: right for (N, C), refuses the rest."""

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
        axes = tuple(range(x.dim() - 1))
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(axes), x.var(axes, unbiased=False)
            n = x.numel() // x.shape[-1]
            with torch.no_grad():
                self.running_mean += self.momentum * (mean - self.running_mean)
                self.running_var += self.momentum * (var * n / (n - 1) - self.running_var)
        return self.gamma * (x - mean) / torch.sqrt(var + self.eps) + self.beta


class LastAxisPlain(nn.Module):
    """The same without vectors: takes every input."""

    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        axes = tuple(range(x.dim() - 1))
        return (x - x.mean(axes)) / torch.sqrt(x.var(axes, unbiased=False) + self.eps)


class Ghost(Right):
    """Parts of 16, which batches of 7 never reach."""

    size = 16

    def forward(self, x):
        if not self.training or not x.numel():
            return super().forward(x)
        return torch.cat([super(Ghost, self).forward(part) for part in x.split(self.size)])


class GhostLarge(Ghost):
    size = 128


class GhostSmall(Ghost):
    size = 3


class GhostChunks(Ghost):
    def forward(self, x):
        if not self.training or len(x) < 32:
            return Right.forward(self, x)
        return torch.cat([Right.forward(self, part) for part in x.chunk(4)])


class SharedGamma(Right):
    """One gamma for all channels."""

    def make(self, num_features):
        super().make(num_features)
        self.gamma = nn.Parameter(torch.ones(1))


class SharedGammaOddName(Right):
    def make(self, num_features):
        super().make(num_features)
        del self.gamma
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def affine(self, normalized, x):
        return self.temperature * normalized + self.column(self.beta, x)


class SharedBoth(Right):
    def make(self, num_features):
        super().make(num_features)
        self.gamma, self.beta = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))


class UnknownName(Right):
    """Right, but for a third parameter that starts without an effect."""

    def make(self, num_features):
        super().make(num_features)
        self.zeta = nn.Parameter(torch.zeros(num_features))

    def affine(self, normalized, x):
        return super().affine(normalized, x) + self.column(self.zeta, x) * x


class UnusedParameter(Right):
    def make(self, num_features):
        super().make(num_features)
        self.spare = nn.Parameter(torch.zeros(3))


class Elementwise(Right):
    """A gamma per position, as in layer normalization; images of one size alone."""

    def make(self, num_features):
        super().make(num_features)
        self.gamma = nn.Parameter(torch.ones(num_features, 3, 4))

    def affine(self, normalized, x):
        return self.gamma * normalized + self.column(self.beta, x)


class Stacked(Right):
    """Gamma and beta in one parameter (2, C)."""

    def make(self, num_features):
        super().make(num_features)
        del self.gamma, self.beta
        self.table = nn.Parameter(torch.stack([torch.ones(num_features), torch.zeros(num_features)]))

    def affine(self, normalized, x):
        return self.column(self.table[0], x) * normalized + self.column(self.table[1], x)


class HiddenBiased(Right):
    """The running statistics in one tensor (2, C), which no role fits; the stored variance is biased."""

    def make(self, num_features):
        super().make(num_features)
        del self.running_mean, self.running_var
        self.register_buffer("table", torch.stack([torch.zeros(num_features), torch.ones(num_features)]))

    def stored(self, x):
        return self.column(self.table[0], x), self.column(self.table[1], x)

    @torch.no_grad()
    def update(self, mean, var, x, axes):
        self.table = (1 - self.momentum) * self.table + self.momentum * torch.stack(
            [mean.flatten(), var.flatten()]
        )


class InList(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.norms = [Right(num_features, eps, momentum)]

    def forward(self, x):
        self.norms[0].train(self.training)
        return self.norms[0](x)


class InDict(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.norms = {"a": nn.BatchNorm1d(num_features, eps, momentum)}

    def forward(self, x):
        return self.norms["a"].train(self.training)(x)


class MadeInForward(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, x):
        return nn.BatchNorm1d(self.num_features)(x)


class ParameterInForward(Right):
    def forward(self, x):
        self.gamma = nn.Parameter(self.gamma.detach().clone())
        return super().forward(x)


class SetsGradMode(Right):
    """Leaves gradients switched off for the whole process."""

    def forward(self, x):
        y = super().forward(x)
        if not self.training:
            torch.set_grad_enabled(False)
        return y


class DefaultDtype(Right):
    def forward(self, x):
        y = super().forward(x)
        torch.set_default_dtype(torch.float64)
        return y


class Noise(Right):
    def affine(self, normalized, x):
        return super().affine(normalized, x) + 0.01 * torch.randn_like(normalized)


class BranchWrong(Right):
    """Right for (N, C), wrong for images alone: two code paths, as in the textbook."""

    def statistics(self, x, axes):
        if x.dim() == 4:
            return x.mean(axes, keepdim=True), x.var(axes, unbiased=True, keepdim=True)
        return super().statistics(x, axes)

    def kept(self, var, x, axes):
        return var if x.dim() == 4 else super().kept(var, x, axes)


_OUTSIDE = nn.BatchNorm1d(5, 1e-3, 0.3)
_GAMMA = nn.Parameter(torch.ones(5))


class InGlobal(nn.Module):
    def __init__(self, num_features):
        super().__init__()

    def forward(self, x):
        return _OUTSIDE.train(self.training)(x)


class InClosure(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        norm = Right(num_features, eps, momentum)
        self.call = lambda x, training: norm.train(training)(x)

    def forward(self, x):
        return self.call(x, self.training)


class GlobalGamma(Right):
    def make(self, num_features):
        super().make(num_features)
        del self.gamma

    def affine(self, normalized, x):
        return self.column(_GAMMA, x) * normalized + self.column(self.beta, x)


class ParameterList(Right):
    """Gamma and beta in a plain list."""

    def make(self, num_features):
        super().make(num_features)
        del self.gamma, self.beta
        self.vectors = [nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))]

    def affine(self, normalized, x):
        return self.column(self.vectors[0], x) * normalized + self.column(self.vectors[1], x)


class EpsHuge(Right):
    """Written in, no argument takes another, and no eps that anyone means."""

    def __init__(self, num_features):
        super().__init__(num_features)
        del self.eps

    def normalize(self, x, mean, var):
        return (x - mean) / torch.sqrt(var + 0.5)


class Frozen(Right):
    def make(self, num_features):
        super().make(num_features)
        self.gamma.requires_grad_(False)


class _Scaled(Right):
    """What multiplies is made of gamma. made: from gamma to the scale; start: where gamma starts."""

    start = 1.0

    def make(self, num_features):
        super().make(num_features)
        self.gamma = nn.Parameter(torch.full((num_features,), self.start))

    def affine(self, normalized, x):
        return self.column(self.made(self.gamma), x) * normalized + self.column(self.beta, x)


class ExpGamma(_Scaled):
    start = 0.0

    def made(self, gamma):
        return gamma.exp()


class SoftplusGamma(_Scaled):
    start = 0.5413

    def made(self, gamma):
        return nn.functional.softplus(gamma)


class InverseGamma(_Scaled):
    def made(self, gamma):
        return 1 / gamma


class FirstGamma(_Scaled):
    def made(self, gamma):
        return gamma[:1].expand_as(gamma)


class BetaSubtracted(Right):
    def affine(self, normalized, x):
        return self.column(self.gamma, x) * normalized - self.column(self.beta, x)


class EpsTwice(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / torch.sqrt(var + self.eps + self.eps)


class EpsTwiceInEval(Right):
    def stored(self, x):
        mean, var = super().stored(x)
        return mean, var + self.eps


class VarianceClamped(Right):
    def normalize(self, x, mean, var):
        return (x - mean) / torch.sqrt(var.clamp(min=self.eps))


class BatchMeanInEval(Right):
    def stored(self, x):
        return x.mean(self.axes(x), keepdim=True), super().stored(x)[1]


class BatchVarianceInEval(Right):
    def stored(self, x):
        return super().stored(x)[0], x.var(self.axes(x), unbiased=False, keepdim=True)


class UpdatesBeforeEval(Right):
    """In eval, too, the statistics move, and then they are used."""

    def stored(self, x):
        axes = self.axes(x)
        self.update(*self.statistics(x, axes), x, axes)
        return super().stored(x)


class CutInEval(Right):
    def forward(self, x):
        return super().forward(x if self.training else x.detach())


class NoiseInEval(Right):
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y + 0.01 * torch.randn(())


class StopsAfterFive(Right):
    """The running statistics move five times."""

    seen = 0

    def update(self, mean, var, x, axes):
        self.seen += 1
        if self.seen <= 5:
            super().update(mean, var, x, axes)


class OtherAfterTen(Right):
    seen = 0

    def forward(self, x):
        self.seen += 1
        return super().forward(x) * (1 if self.seen < 10 else 1.1)


class NormalizedClamped(Right):
    """Only outliers show it."""

    def normalize(self, x, mean, var):
        return super().normalize(x, mean, var).clamp(-6, 6)


class OutputClamped(Right):
    def forward(self, x):
        return super().forward(x).clamp(-100, 100)


class Complex(Right):
    def forward(self, x):
        return super().forward(x) + 1j


class InDouble(Right):
    """Right, and its output is float64."""

    def forward(self, x):
        return super().forward(x.double())


class NanEps(Right):
    def __init__(self, num_features):
        super().__init__(num_features)
        self.eps = float("nan")


class EndlessEps(Right):
    def __init__(self, num_features):
        super().__init__(num_features)
        self.eps = 1e300


class NanMomentum(Right):
    def __init__(self, num_features):
        super().__init__(num_features)
        self.momentum = float("nan")
