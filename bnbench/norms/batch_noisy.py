"""Batch norm followed by noise that is as unstable as can be (Santurkar et al. 2018, arXiv 1805.11604)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.base.ranks import own_part, whole_shape
from bnbench.base.seeding import generator
from bnbench.norms import norms
from bnbench.norms.batch_norm import fast, inference
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import at_least_float32, column
from bnbench.norms.options import Affine, Eps, MomentumOrAverage

Spread = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Noise:
    """The noise on the outputs: see `batch_noisy`."""

    mean_range: float = 0.5
    scale_max: float = 1.25
    spread: float = 0.1


#: As the paper draws it.
PAPER = Noise()


class NoisyBatchNorm(BatchNormVariant):
    """Batch norm; in training its output is scaled and shifted at random. 2 to 5 axes.

    noise_seed (a buffer, drawn again by reset_noise, from torch's global generator) and
    num_batches_tracked determine the noise of a step, so a state dict brings back the noise to come.
    """

    noise_seed: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        noise: Noise = PAPER,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.noise = noise
        self.register_buffer("noise_seed", torch.randint(2**62, ()))

    def reset_noise(self) -> None:
        """Another seed for the noise."""
        self.noise_seed.random_(2**62)

    def normalize(self, x: Tensor) -> Tensor:
        """Batch norm, then s * y + m."""
        y, mean, var = fast(x, self.weight, self.bias, self.eps)
        self.track(x, mean, var)
        scale, shift = self._noise(y)
        return (at_least_float32(y) * scale + shift).to(x.dtype)

    def infer(self, x: Tensor) -> Tensor:
        """As batch norm: with the running statistics, without noise."""
        return inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)

    def _noise(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """This step's s and m, of the shape of y."""
        draw = generator(int(self.noise_seed), "noise", int(self.num_batches_tracked))

        def uniform(shape: torch.Size, low: float, high: float) -> Tensor:
            return torch.rand(shape, generator=draw) * (high - low) + low

        per_channel = torch.Size([y.shape[1]])
        mean = uniform(per_channel, -self.noise.mean_range, self.noise.mean_range)
        scale = uniform(per_channel, 1.0, self.noise.scale_max)
        # where several processes train a batch, the noise of all of its samples is drawn in each
        shape, own = torch.Size(whole_shape(tuple(y.shape))), own_part(len(y))
        shifts = uniform(shape, -self.noise.spread, self.noise.spread)[own] + column(mean, y)
        scales = torch.randn(shape, generator=draw)[own] * self.noise.spread + column(scale, y)
        return scales.to(y.device), shifts.to(y.device)

    def extra_repr(self) -> str:
        """The arguments of batch norm, and the noise."""
        noise = (f"{name}={value}" for name, value in vars(self.noise).items())
        return ", ".join([super().extra_repr(), *noise])


@norms.register("batch_noisy", absorbs_bias=True)
def batch_noisy(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: MomentumOrAverage = 0.1,
    affine: Affine = True,
    mean_range: Spread = 0.5,
    scale_max: Annotated[float, Field(ge=1)] = 1.25,
    spread: Spread = 0.1,
) -> nn.Module:
    """Batch norm, then noise whose mean and scale change at every step (training only).

    Santurkar et al. 2018 (arXiv 1805.11604), section 2.1 and the "noisy" algorithm of appendix A. At each
    step every channel draws µ ~ U(-mean_range, mean_range) and σ ~ U(1, scale_max), then every value of it
    m ~ U(µ - spread, µ + spread) and s ~ N(σ, spread²), and y becomes s * y + m. Drawn on the CPU from a
    private generator (the layer's own seed and the number of steps): reproducible on any device.
    It shows that batch norm helps although its outputs' distribution is made unstable on purpose.

    mean_range: the noise's mean is drawn from -mean_range to mean_range, by channel and step
    scale_max: the noise's scale is drawn from 1 to scale_max, by channel and step
    spread: how far the noise of a single value may be from its channel's
    """
    noise = Noise(mean_range, scale_max, spread)
    return NoisyBatchNorm(num_features, eps, momentum, affine, noise)
