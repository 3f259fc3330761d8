"""The outputs of a variational autoencoder, and the two parts of its evidence lower bound (ELBO).

Kingma & Welling 2014, arXiv 1312.6114, with a Gaussian likelihood p(x|z) = N(location(z), noise² I) whose noise is one
number for all values of all images (Rybkin et al. 2021, arXiv 2006.13202, section 3).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Variational(NamedTuple):
    """location: the decoded image (N, ...). mean, log_variance: of q(z|x), (N, latent). log_noise: log noise², ()."""

    location: Tensor
    mean: Tensor
    log_variance: Tensor
    log_noise: Tensor

    def reconstruction(self, x: Tensor) -> Tensor:
        """-log p(x|z) of each sample, (N,), in nats: ½ Σ ((x - location)² / noise² + log noise² + log 2π)."""
        errors = _wide(x).flatten(1) - _wide(self.location).flatten(1)
        log_noise = _wide(self.log_noise)
        constant = errors.shape[1] * (log_noise + math.log(2 * math.pi))
        return 0.5 * (errors.square().sum(1) * (-log_noise).exp() + constant)

    def kl(self) -> Tensor:
        """KL(q(z|x) || N(0, 1)) of each latent variable, (N, latent), in nats (Kingma & Welling 2014, appendix B)."""
        mean, log_variance = _wide(self.mean), _wide(self.log_variance)
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def _wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values if values.dtype == torch.float64 else values.float()
