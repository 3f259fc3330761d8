"""Images (N, channels, height, width), or features as (N, features, 1, 1), each of one class."""

from __future__ import annotations

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.task_facts import IMAGE_CLASSIFICATION
from bnbench.data import Dataset, Sizes
from bnbench.data.tally import listed
from bnbench.tasks import tasks
from bnbench.tasks.classifying import Classifying

_FACTS = IMAGE_CLASSIFICATION


@tasks.register(
    "image_classification",
    metrics=_FACTS.metrics,
    losses=_FACTS.losses,
    primary=_FACTS.primary,
    shown=_FACTS.shown,
    per_class=_FACTS.per_class,
    chance=_FACTS.chance,
)
class ImageClassification(Classifying):
    """Images, or features, each of one class: cross-entropy, accuracy, balanced accuracy, macro F1, recall by class."""

    def check(self, dataset: Dataset) -> None:
        """Images or features, and one class a sample."""
        inputs, targets = dataset.train_inputs, dataset.train_targets
        if inputs.ndim != 4 or targets.ndim != 1 or targets.dtype != torch.int64 or not dataset.class_names:
            raise DataError(
                f"task: image_classification: inputs of {inputs.dtype} and shape {tuple(inputs.shape)}, targets of "
                f"{targets.dtype} and shape {tuple(targets.shape)}, {len(dataset.class_names)} classes.",
                "It takes inputs (samples, channels, height, width) and one class a sample, int64 from 0.",
                "the task that the data set is made for, or another data set.",
            )
        if len(dataset.class_names) == 1:
            raise DataError(
                f"the data set has only one class, {listed(dataset.class_names)}.",
                "A classifier needs at least two classes.",
                "images of a second class (imagefolder: PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg), or a task "
                "without classes, such as gan or autoencoder.",
            )

    def sizes(self, dataset: Dataset) -> Sizes:
        """The shape of an image, and one output a class."""
        return Sizes(tuple(dataset.train_inputs.shape[1:]), len(dataset.class_names))

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise, and any classes."""
        images = torch.randn((count, *sizes.input_shape), generator=draw)
        return images, torch.randint(sizes.num_outputs, (count,), generator=draw)
