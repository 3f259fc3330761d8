"""Generative adversarial networks: a generator makes images, a discriminator tells them from real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from bnbench.base.errors import DataError
from bnbench.base.metrics import Metric
from bnbench.data import Dataset, Sizes
from bnbench.tasks import Task, tasks
from bnbench.tasks.feature_network import FeatureNetwork, feature_network
from bnbench.tasks.image_quality import IMAGE_QUALITY, image_quality
from bnbench.tasks.images import SAMPLES

if TYPE_CHECKING:
    from bnbench.data.prepared import Preparation, Prepared

#: Numbers before the image in an output of the network: the logits of `bnbench.models.adversaries.Adversaries`.
LOGITS = 3
#: A run has learnt where the Fréchet distance fell below this share of its start.
LEARNT = 0.5

Latent = Annotated[int, Field(ge=1, le=65_536, description="numbers in a latent vector, each N(0, 1)")]
Rate = Annotated[
    Annotated[float, Field(gt=0)] | None,
    Field(description="the discriminator's learning rate; none: the optimizer's, as for the generator"),
]
DiscriminatorSteps = Annotated[
    int, Field(ge=1, le=1000, description="steps of the discriminator for each step of the generator")
]


@tasks.register(
    "gan",
    metrics=(
        Metric("loss", "lower"),
        *IMAGE_QUALITY,
        Metric("generator_loss", "lower"),
        Metric("discriminator_loss", "lower"),
        Metric("discriminator_accuracy", "higher", percent=True),
    ),
    losses=("non_saturating",),
    primary="frechet",
    shown=("frechet", "coverage", "generator_loss", "discriminator_loss", "discriminator_accuracy"),
    chance=f"the Fréchet distance on the validation part is not below {LEARNT:g} of that at the start",
    normalizations=("signed",),
    models=("dcgan",),
    dataset="digits",
    two_networks=True,
)
class Gan(Task):
    """Images like those of a data set, made from noise: a generator and a discriminator, each with its optimizer.

    `loss` is the Fréchet distance: neither network's loss falls as the images get better, and the best weights are
    those with the lowest `loss` on the validation part.
    """

    def __init__(
        self,
        *,
        latent: Latent = 64,
        discriminator_lr: Rate = None,
        discriminator_steps: DiscriminatorSteps = 1,
    ) -> None:
        self.latent = latent
        self.discriminator_lr, self.discriminator_steps = discriminator_lr, discriminator_steps

    def check(self, dataset: Dataset) -> None:
        """Images, of any classes or none."""
        inputs = dataset.train_inputs
        numbers = inputs.is_floating_point() or inputs.dtype == torch.uint8
        if inputs.ndim != 4 or not numbers or min(inputs.shape[-2:]) < 2:
            raise DataError(
                f"task: gan: inputs of {inputs.dtype} and shape {tuple(inputs.shape)}.",
                "It makes images: samples of (channels, height, width), uint8 or float32.",
                "a data set of images, such as digits or mnist.",
            )

    def sizes(self, dataset: Dataset) -> Sizes:
        """The shape of an image, and the numbers in a latent vector."""
        return Sizes(tuple(dataset.train_inputs.shape[1:]), self.latent)

    def network_arguments(self, sizes: Sizes) -> tuple[Any, ...]:
        """The shape of an image, and the numbers in a latent vector."""
        return sizes.input_shape, self.latent

    def prepare(self, dataset: Dataset, preparation: Preparation, device: torch.device) -> Prepared:
        """As any task does. Raises DataError where a part is too small to be measured."""
        prepared = super().prepare(dataset, preparation, device)
        for part, targets in (("validation", prepared.val_targets), ("test", prepared.test_targets)):
            if len(targets) < 2:
                raise DataError(
                    f"task: gan: the {part} part has {len(targets)} image.",
                    "The Fréchet distance compares the mean and the covariance of at least 2 images.",
                    "more samples, a larger validation.fraction, or a larger max_eval_samples.",
                )
        return prepared

    def aid(self, dataset: Dataset, device: torch.device) -> FeatureNetwork:
        """The classifier in whose features images are compared."""
        return feature_network(dataset)

    def made_up_data(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise, and no classes."""
        images = torch.rand((count, *sizes.input_shape), generator=draw) * 2 - 1
        return images, torch.zeros(count, dtype=torch.int64)

    def batch(self, inputs: Tensor, targets: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Every image with a latent vector behind its values, (N, C H W + Z); asked for: the images themselves."""
        latents = torch.randn((len(inputs), self.latent), generator=draw)
        both = torch.cat([inputs.flatten(1), latents.to(inputs.device, inputs.dtype)], 1)
        return both, inputs

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """All: three logits and the made image, (N, 3 + C H W) float32."""
        return outputs.cpu().float()

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterator[tuple[str, float]]:
        """Of as many made images as there are real ones in the part."""
        made = outputs[:, LOGITS:].reshape(targets.shape)
        quality = {metric.name: math.nan for metric in IMAGE_QUALITY}
        if isinstance(data.aid, FeatureNetwork):
            quality = image_quality(_pixels(made, data), _pixels(targets, data), data.aid)
        yield from quality.items()
        yield from self.measure(outputs, targets, data.class_names)
        yield "loss", quality["frechet"]

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """The losses, and how well the discriminator tells real images (logits above 0) from made ones (below)."""
        real, made = outputs[:, 0].double(), outputs[:, 1].double()
        yield "generator_loss", float(softplus(-made).mean())
        yield "discriminator_loss", float((softplus(-real) + softplus(made)).mean())
        yield "discriminator_accuracy", float(torch.cat([real > 0, made < 0]).double().mean())

    def samples(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> Tensor:
        """What the generator makes of the same 64 latent vectors for all runs."""
        inputs, _ = self.batch(torch.zeros(SAMPLES, *data.input_shape), torch.zeros(SAMPLES), draw)
        made = model(inputs.to(data.val_targets.device)).cpu().float()[:, LOGITS:]
        return _pixels(made.reshape(SAMPLES, *data.input_shape), data)

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """Whether the Fréchet distance on the validation part fell below half of its start."""
        return last["val_frechet"] < LEARNT * first["val_frechet"]


def _pixels(images: Tensor, data: Prepared) -> Tensor:
    """Normalised images (N, C, H, W) on the CPU as pixel values in 0..1."""
    if not isinstance(data.aid, FeatureNetwork):
        return ((images + 1) / 2).clamp(0, 1)
    return data.aid.unit(images.to(data.val_inputs.device), data).cpu()
