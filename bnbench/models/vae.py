"""A variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.base.ranks import own_part, whole_shape
from bnbench.base.seeding import generator
from bnbench.base.variational import Variational
from bnbench.models import models
from bnbench.models.encoder_decoder import (
    Channels,
    Design,
    Hidden,
    Latent,
    Network,
    check_latent,
    decoder,
    encoder,
)
from bnbench.models.layers import Activation, Bias, NormLayer, NormPosition

Sigma = Annotated[
    float | None,
    Field(
        gt=0,
        description="standard deviation of the likelihood, in units of the normalised data; none: it is learnt",
    ),
]


MeanScale = Annotated[
    float | None,
    Field(
        gt=0,
        description="batch norm on the posterior means with this fixed gamma (BN-VAE); none: no norm there",
    ),
]


class NormOfMeans(nn.Module):
    """Batch norm on the posterior means, with a fixed gamma and a beta that is learnt (Zhu et al. 2020, section 3).

    Over a batch each mean has the variance gamma² (up to eps) and the mean beta, so that the KL divergence of a latent
    variable is at least (gamma² + beta²) / 2 on average (equation 7): the posterior can't collapse.
    """

    def __init__(self, latent: int, gamma: float) -> None:
        super().__init__()
        self.gamma, self.norm = gamma, nn.BatchNorm1d(latent, affine=False)
        self.beta = nn.Parameter(torch.zeros(latent))

    def forward(self, mean: Tensor) -> Tensor:
        """(N, latent) to the same."""
        out: Tensor = self.gamma * self.norm(mean) + self.beta
        return out

    def extra_repr(self) -> str:
        """The fixed gamma."""
        return f"gamma={self.gamma}"


class Reparametrization(nn.Module):
    """z = mean + exp(log_variance / 2) e, with e ~ N(0, 1) from a stream of the layer's own.

    In training noise_seed (a buffer, drawn again by reset_noise, from torch's global generator) and num_draws, the
    draws so far, determine e: the same in every variant of a seed, whatever stands before this layer. In evaluation e
    comes from one fixed stream, from its start for every batch: the same for all variants and all runs, and no state
    changes.
    """

    noise_seed: Tensor
    num_draws: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise_seed", torch.randint(2**62, ()))
        self.register_buffer("num_draws", torch.tensor(0))

    def reset_noise(self) -> None:
        """Another seed for the noise."""
        self.noise_seed.random_(2**62)

    def noise(self, shape: Sequence[int]) -> Tensor:
        """The next e, float32 on the CPU."""
        if self.training:
            draw = generator(int(self.noise_seed), "latent", int(self.num_draws))
            self.num_draws += 1
        else:
            draw = generator(0, "latent", "evaluation")
        return torch.randn(whole_shape(tuple(shape)), generator=draw)[own_part(shape[0])]

    def forward(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """(N, latent) each to (N, latent)."""
        noise = self.noise(mean.shape).to(mean.device, mean.dtype)
        return mean + (log_variance / 2).exp() * noise


class VariationalAutoencoder(nn.Module):
    """Encoder, a draw of the latent variables, decoder. log_noise: see `Variational`; learnt without a sigma."""

    log_noise: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent: int,
        sigma: float | None,
        norm_on_mean: float | None = None,
    ) -> None:
        super().__init__()
        self.means = NormOfMeans(latent, norm_on_mean) if norm_on_mean else nn.Identity()
        self.encoder, self.latent, self.decoder = encoder, Reparametrization(), decoder
        self.num_latents = latent
        if sigma is None:
            self.log_noise = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_noise", torch.tensor(2 * math.log(sigma)))

    def forward(self, x: Tensor) -> Variational:
        """Images (N, C, H, W)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        mean = self.means(mean)
        return Variational(self.decoder(self.latent(mean, log_variance)), mean, log_variance, self.log_noise)


@models.register("vae", init="torch", tasks=("vae",))
def vae(
    input_shape: tuple[int, int, int],
    num_outputs: int,
    norm: NormLayer,
    *,
    latent: Latent = 8,
    network: Network = "conv",
    channels: Channels = [16, 32],  # noqa: B006
    hidden: Hidden = [128],  # noqa: B006
    sigma: Sigma = None,
    norm_on_mean: MeanScale = None,
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
) -> nn.Module:
    """Variational autoencoder (Kingma & Welling 2014), Gaussian: no norm at the posterior and at the decoded image.

    latent: latent variables
    channels: output channels of each convolution of the encoder, each with stride 2 (network: conv)
    hidden: units of each hidden layer of the encoder (network: mlp)
    norm_on_mean: gamma of BN-VAE (Zhu et al. 2020, arXiv 2004.12943), e.g. 0.5
    """
    check_latent("a VAE", latent, input_shape)
    design = Design(network, channels, hidden, activation, norm_position, bias)
    halves = encoder(input_shape, 2 * latent, norm, design), decoder(input_shape, latent, norm, design)
    return VariationalAutoencoder(*halves, latent, sigma, norm_on_mean)
