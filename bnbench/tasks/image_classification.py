"""Images (N, channels, height, width), or features as (N, features, 1, 1), each of one class."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.task_facts import IMAGE_CLASSIFICATION
from bnbench.data import Dataset, Sizes, count_classes
from bnbench.data.tally import listed
from bnbench.study.records import TestSamples
from bnbench.tasks import NO_PROGRESS, Task, tasks
from bnbench.tasks.classification import accuracy_by_sample, loss_by_sample, measure

#: The largest class has so many times the samples of the smallest: accuracy alone would mislead.
IMBALANCED = 2
#: Where one class is large, a loss below the best constant guess by more than this share has learnt.
BETTER = 0.05

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
class ImageClassification(Task):
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

    def sizes(self, dataset: Dataset) -> Sizes:
        """The shape of an image, and one output a class."""
        return Sizes(tuple(dataset.train_inputs.shape[1:]), len(dataset.class_names))

    def remarks(self, part: str, targets: Tensor, class_names: Sequence[str]) -> Iterator[str]:
        """Classes without a sample; classes of very different sizes."""
        counts = count_classes(targets, len(class_names))
        yield from _absent(counts, class_names, part)
        present = [count for count in counts if count]
        if part == "training" and max(present) > IMBALANCED * min(present):
            yield (
                f"classes of the training part have {min(present):,} to {max(present):,} samples, and accuracy is "
                "mostly that of the large ones (metrics: [balanced_accuracy] counts all alike)"
            )

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise, and any classes."""
        images = torch.randn((count, *sizes.input_shape), generator=draw)
        return images, torch.randint(sizes.num_outputs, (count,), generator=draw)

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """Of logits (N, classes) and labels (N,)."""
        return measure(outputs, targets, class_names)

    def answers(self, outputs: Tensor, targets: Tensor) -> TestSamples:
        """Of each test sample; the hash of the labels in their order names the samples."""
        right, loss = (by_sample(outputs, targets) for by_sample in (accuracy_by_sample, loss_by_sample))
        digest = hashlib.blake2b(targets.numpy().astype("<i8").tobytes(), digest_size=8).hexdigest()
        return TestSamples(right.to(torch.uint8).numpy(), loss.float().numpy(), digest)

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """Whether it beats every guess that ignores its input (see `above_chance`)."""
        return above_chance(last["val_accuracy"], first["val_loss"], last["val_loss"], targets)


def above_chance(accuracy: float, first_loss: float, last_loss: float, labels: Tensor) -> bool:
    """Whether a run has learnt: it beats every guess that ignores its input.

    Its accuracy is above the share of the largest class by 2 binomial standard errors. Where that class
    holds more than half of the samples, a network learns long before its accuracy shows it: there a
    cross-entropy more than 5 % below the entropy of the class shares, the least that a constant guess
    can have, counts too. Where no accuracy can be above chance (one class, or few and one-sided
    samples), so does a loss that fell by 1 % of its start.
    """
    shares = labels.cpu().bincount().double() / len(labels)
    largest = float(shares.max())
    threshold = largest + 2 * math.sqrt(largest * (1 - largest) / len(labels))
    if threshold >= 1 and last_loss <= (1 - NO_PROGRESS) * first_loss:
        return True
    entropy = float(torch.special.entr(shares).sum())
    return accuracy > threshold or (largest > 0.5 and last_loss < (1 - BETTER) * entropy)


def _absent(counts: Sequence[int], class_names: Sequence[str], part: str) -> list[str]:
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if not absent:
        return []
    names = listed(absent, 3)
    return [f"{len(absent)} of {len(class_names)} classes have no sample in the {part} part: {names}"]
