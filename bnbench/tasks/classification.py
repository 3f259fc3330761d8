"""The metrics of classification, from logits and labels.

A metric is the mean of a number per sample (loss, accuracy), or of a number per class (balanced accuracy: the recall
of each class, macro F1: its F1). What is known of them without computing stands in `bnbench.base.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from bnbench.base.metrics import MOST_CLASSES, RECALL


def loss_by_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the softmax of the logits, in nats: never smoothed, never doubled."""
    return logits.logsumexp(-1) - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def accuracy_by_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the largest logit is the label's, else 0 (logits that are not all finite are always wrong)."""
    right = logits.argmax(-1) == labels
    return (right & logits.isfinite().all(-1)).to(logits.dtype)


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """(classes, classes + 1) float64: the number of samples of a class (row) that were taken for each class (column).

    The last column counts the samples whose logits are not all finite: they are taken for no class.
    """
    classes = logits.shape[-1]
    answers = logits.argmax(-1).masked_fill(~logits.isfinite().all(-1), classes)
    cells = labels * (classes + 1) + answers
    return cells.bincount(minlength=classes * (classes + 1)).reshape(classes, classes + 1).double()


def _recall(counts: Tensor) -> Tensor:
    """The share of a class's samples that were taken for it. NaN for a class without samples."""
    return counts.diagonal() / counts.sum(1)


def _f1(counts: Tensor) -> Tensor:
    """2 TP / (samples of the class + samples taken for it). NaN for a class without samples."""
    size = counts.sum(1)
    scores = 2 * counts.diagonal() / (size + counts.sum(0)[: len(counts)])
    return scores.masked_fill(size == 0, float("nan"))


#: By name: logits (N, classes), labels (N,) to a value per sample, (N,), whose mean is the metric.
BY_SAMPLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loss": loss_by_sample,
    "accuracy": accuracy_by_sample,
}
#: By name: a confusion (see `confusion`) to a value per class, whose mean over the classes with samples is the metric.
BY_CLASS: dict[str, Callable[[Tensor], Tensor]] = {"balanced_accuracy": _recall, "macro_f1": _f1}


def measure(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Every metric by name, of each class too where there are at most `MOST_CLASSES`.

    logits: (N, classes); labels: (N,), not all of which need be there: the recall of a class without
    samples is NaN.
    """
    counts = confusion(logits, labels)
    present = counts.sum(1) > 0
    for name, by_sample in BY_SAMPLE.items():
        yield name, float(by_sample(logits, labels).mean())
    for name, by_class in BY_CLASS.items():
        yield name, float(by_class(counts)[present].mean())
    if len(class_names) <= MOST_CLASSES:
        for class_name, value in zip(class_names, _recall(counts).tolist(), strict=True):
            yield f"{RECALL}:{class_name}", value
