"""What all tasks that tell classes apart have in common: remarks on the classes, metrics, answers, the chance level."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bnbench.data import count_classes
from bnbench.data.tally import listed
from bnbench.study.records import TestSamples
from bnbench.tasks import NO_PROGRESS, Task
from bnbench.tasks.classification import accuracy_by_sample, loss_by_sample, measure

#: The largest class has so many times the samples of the smallest: accuracy alone would mislead.
IMBALANCED = 2
#: Where one class is large, a loss below the best constant guess by more than this share has learnt.
BETTER = 0.05


class Classifying(Task):
    """One class a sample. A task says what its inputs are: `check`, `sizes`, `made_up`."""

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
