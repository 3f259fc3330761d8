"""A variational autoencoder: the evidence lower bound (ELBO) and its parts, active units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.metrics import Metric
from bnbench.base.variational import Variational
from bnbench.data import Dataset
from bnbench.data.pixels import to_unit
from bnbench.data.prepared import Prepared
from bnbench.tasks import tasks
from bnbench.tasks.autoencoder import LEAST
from bnbench.tasks.image_quality import IMAGE_QUALITY, FeatureNetwork, feature_network
from bnbench.tasks.images import SAMPLES, Reconstruction, check_images, not_yet, quality_of, variation

#: A latent variable is active where the variance of its posterior mean over the data is above this.
ACTIVE = 0.01


@tasks.register(
    "vae",
    metrics=(
        Metric("loss", "lower", lowest=None),
        Metric("reconstruction", "lower", lowest=None),
        Metric("kl", "lower"),
        Metric("kl_largest", "lower"),
        Metric("active_units", "higher"),
        Metric("r2", "higher", lowest=None),
        *IMAGE_QUALITY,
    ),
    losses=("elbo",),
    models=("vae",),
    dataset="digits",
    primary="loss",
    shown=("loss", "reconstruction", "kl", "active_units"),
    chance=f"R² of the reconstructions on the validation part is below {LEAST}: hardly better than the best constant "
    "image, as where the posterior has collapsed",
)
class VariationalAutoencoder(Reconstruction):
    """Images from latent variables: the negative ELBO of a sample in nats, its two parts, active units.

    loss: reconstruction + kl, always without β: the negative ELBO with one draw of the latent variables, the same
    draws for all variants. reconstruction: -log p(x|z), of a Gaussian density over the normalised values: it can be
    below 0, and a density has no bits a dimension. kl: KL(q(z|x) || N(0, I)), summed over the latent variables.
    kl_largest: of the latent variable that has the largest. active_units: the latent variables with Cov_x(E[z|x]) >
    0.01 (Burda et al. 2016, arXiv 1509.00519, section 5.2; divisor N). r2: as for the task autoencoder.
    """

    def check(self, dataset: Dataset) -> None:
        """Images, or features."""
        check_images("vae", dataset, features=True)

    def aid(self, dataset: Dataset, device: torch.device) -> FeatureNetwork | None:
        """The features in which decoded images are measured; none for features."""
        return feature_network(dataset) if dataset.train_inputs.shape[2:] != (1, 1) else None

    def kept(self, outputs: Variational, targets: Tensor) -> Tensor:  # type: ignore[override]
        """A row a sample, float64: -log p(x|z), squared error, KL of each latent variable, its posterior mean."""
        wide, images = Variational(*(value.cpu().double() for value in outputs)), targets.cpu().double()
        errors = (wide.location - images).flatten(1).square().sum(1)
        columns = [wide.reconstruction(images)[:, None], errors[:, None], wide.kl(), wide.mean]
        return torch.cat(columns, 1)

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterator[tuple[str, float]]:
        """Of the `kept` rows of a part."""
        reconstruction, errors, rest = outputs[:, 0], outputs[:, 1], outputs[:, 2:]
        kl, means = rest.chunk(2, 1)
        by_latent = kl.mean(0)
        yield "loss", float(reconstruction.mean() + by_latent.sum())
        yield "reconstruction", float(reconstruction.mean())
        yield "kl", float(by_latent.sum())
        yield "kl_largest", float(by_latent.max())
        yield "active_units", float(active(means).sum())
        spread = variation(targets)
        yield "r2", 1 - float(errors.sum()) / spread if spread else math.nan

        yield from not_yet()

    def at_end(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> dict[str, float]:
        """The quality of decoded draws from the prior."""
        if halves_of(model) is None:
            return {}
        return quality_of(lambda count: self._made(model, data, draw, count), data)

    def samples(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> Tensor | None:
        """Decoded draws from the prior N(0, I); None for features, and for a model without decoder and num_latents."""
        if halves_of(model) is None or data.input_shape[1:] == (1, 1):
            return None
        return to_unit(self._made(model, data, draw, SAMPLES), data)

    def _made(self, model: Any, data: Prepared, draw: torch.Generator, count: int) -> Tensor:
        latent = torch.randn(count, model.num_latents, generator=draw).to(data.val_inputs.device)
        made: Tensor = model.decoder(latent)
        return made

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """By R², of which the best constant image has 0."""
        return last["val_r2"] >= LEAST


def halves_of(model: nn.Module) -> nn.Module | None:
    """The decoder of a model; None where it is not known, or not from how many numbers it decodes."""
    decoder = getattr(model, "decoder", None)
    known = isinstance(decoder, nn.Module) and isinstance(getattr(model, "num_latents", None), int)
    return decoder if known else None


def active(means: Tensor) -> Tensor:
    """(latent,) bool: which latent variables have posterior means (N, latent) whose variance is above `ACTIVE`."""
    return means.var(0, correction=0) > ACTIVE
