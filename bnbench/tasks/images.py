"""What the tasks share whose targets are the images themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data import Dataset, Sizes
from bnbench.data.prepared import Prepared
from bnbench.tasks import Task
from bnbench.tasks.feature_network import FeatureNetwork, evenly
from bnbench.tasks.image_quality import IMAGE_QUALITY, image_quality

#: Images that a task makes, or decodes, for the sheet of samples.
SAMPLES = 64
#: Generated images at most whose quality is measured, against as many real ones.
MEASURED = 500


class Reconstruction(Task):
    """A task whose network gives the images back: what is asked for is what comes in."""

    def sizes(self, dataset: Dataset) -> Sizes:
        """As many outputs as an image has values."""
        shape = tuple(dataset.train_inputs.shape[1:])
        return Sizes(shape, math.prod(shape))

    def batch(self, inputs: Tensor, targets: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images, and themselves."""
        return inputs, inputs

    def made_up_data(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise."""
        images = torch.randn((count, *sizes.input_shape), generator=draw)
        return images, images


def check_images(task: str, dataset: Dataset, *, features: bool) -> None:
    """Raises DataError where inputs are not (N, channels, height, width). features: whether 1x1 is taken as well."""
    inputs = dataset.train_inputs
    numbers = inputs.is_floating_point() or inputs.dtype == torch.uint8
    if inputs.ndim != 4 or not numbers:
        raise DataError(
            f"task: {task}: inputs of {inputs.dtype} and shape {tuple(inputs.shape)}.",
            "It takes images (samples, channels, height, width) of bytes or float32.",
            "the task that the data set is made for, or a data set of images.",
        )
    if not features and inputs.shape[2:] == (1, 1):
        several = "s" if inputs.shape[1] > 1 else ""
        raise DataError(
            f"task: {task}: the data set has {inputs.shape[1]} feature{several} a sample and no images.",
            "Its network needs the height and width of an image.",
            "a data set of images, or task: autoencoder.",
        )


def variation(images: Tensor) -> float:
    """Σ (x - mean image)² over all values of all images (N, ...), in float64: the error of the best constant image."""
    flat = images.flatten(1).double()
    return float((flat - flat.mean(0)).square().sum())


def quality_of(make: Callable[[int], Tensor], data: Prepared) -> dict[str, float]:
    """The metrics of generated images (`IMAGE_QUALITY`) against as many of the test part; empty without features.

    make: from a number of images to that many, normalised (N, C, H, W).
    """
    network = data.aid
    if not isinstance(network, FeatureNetwork):
        return {}
    real = data.test_inputs[evenly(len(data.test_inputs), MEASURED).to(data.test_inputs.device)]
    made = make(len(real))
    return image_quality(network.unit(made, data), network.unit(real, data), network)


def not_yet() -> Iterator[tuple[str, float]]:
    """NaN for each of these metrics: they are measured at the end of a run."""
    return ((metric.name, math.nan) for metric in IMAGE_QUALITY)


def fixed_images(images: Tensor, draw: torch.Generator, count: int = SAMPLES) -> Tensor:
    """So many of the images, or all, drawn from this stream."""
    order = torch.randperm(len(images), generator=draw)[:count]
    return images[order.to(images.device)]
