"""What is measured on logits and labels. One `Metric` here, and it is evaluated, stored and compared.

A metric is the mean of a number per sample (loss, accuracy), or of a number per class (balanced accuracy:
the recall of each class, macro F1: its F1). The number of one class is a metric of its own,
`recall:CLASS`; which classes there are is known once the data is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bnbench.base.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

#: The metric of every class, where a study asks for all; "recall:cat" is that of one.
RECALL = "recall"
#: The recall of each class is measured where there are no more classes than this.
MOST_CLASSES = 100


@dataclass(frozen=True)
class Metric:
    """One number for a split.

    percent: shown as a percentage. by_sample: logits (N, classes), labels (N,) -> a value per sample, (N,),
    whose mean is the metric. by_class: confusion (see `confusion`) -> a value per class, (classes,);
    the metric is the mean over the classes that have samples, or the value of class_name, where one is named.
    largest_change: see `granularity`.
    """

    name: str
    better: Literal["lower", "higher"]
    percent: bool
    by_sample: Callable[[Tensor, Tensor], Tensor] | None = None
    by_class: Callable[[Tensor], Tensor] | None = None
    largest_change: Callable[[Sequence[int]], float] | None = None
    class_name: str | None = None

    def reaches(self, value: float, target: float) -> bool:
        """Whether `value` is at least as good as `target`. NaN never is."""
        return value <= target if self.better == "lower" else value >= target

    def granularity(self, counts: Sequence[int], class_names: Sequence[str] = ()) -> float | None:
        """The largest change that the answer on one sample can make; None where it has no bound (a loss).

        counts: samples of each class. class_names: in the same order; without them the recall of one
        class is taken for that of the smallest, which changes most. None also without any sample.
        """
        if self.class_name is not None and self.class_name in class_names:
            counts = [counts[list(class_names).index(self.class_name)]]
        present = sorted(count for count in counts if count)
        if self.largest_change is None or not present:
            return None
        return self.largest_change(present[:1] if self.class_name is not None else present)


def loss_by_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the softmax of the logits, in nats: never smoothed, never doubled."""
    return logits.logsumexp(-1) - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def accuracy_by_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the largest logit is the label's, else 0 (logits that are not all finite are always wrong)."""
    right = logits.argmax(-1) == labels
    return (right & logits.isfinite().all(-1)).to(logits.dtype)


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """(classes, classes + 1) float64: how many samples of a class (row) were taken for each (column).

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
    found = 2 * counts.diagonal() / (size + counts.sum(0)[: len(counts)])
    return found.masked_fill(size == 0, float("nan"))


def _one_in_all(sizes: Sequence[int]) -> float:
    return 1 / sum(sizes)


def _one_in_its_class(sizes: Sequence[int]) -> float:
    """Of a mean over classes of a share: largest where the class is the smallest. sizes: ascending, none 0."""
    return 1 / (len(sizes) * sizes[0])


def _largest_change_of_f1(sizes: Sequence[int]) -> float:
    """A bound on the change of macro F1 by one answer. sizes: ascending, none 0.

    A sample of class a that was taken for b is now taken for a. F1 of a grows by 2 (n + p - TP) / ((n + p)
    (n + p + 1)), with n its samples and p those taken for it: at most 2 / (n + 1), where p = TP = 0. F1 of b
    grows by 2 TP / ((n + p) (n + p - 1)) with p > TP: at most 1 / (2n + 1), where TP = n. Both bounds fall
    with n, so the two smallest classes have the largest sum. Any other change of one answer is smaller.
    """
    pairs = [(sizes[0], sizes[1]), (sizes[1], sizes[0])] if len(sizes) > 1 else []
    changes = [2 / (ours + 1) + 1 / (2 * other + 1) for ours, other in pairs] or [2 / (sizes[0] + 1)]
    return max(changes) / len(sizes)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("loss", "lower", False, by_sample=loss_by_sample),
        Metric("accuracy", "higher", True, by_sample=accuracy_by_sample, largest_change=_one_in_all),
        Metric("balanced_accuracy", "higher", True, by_class=_recall, largest_change=_one_in_its_class),
        Metric("macro_f1", "higher", True, by_class=_f1, largest_change=_largest_change_of_f1),
    )
}
#: What every study shows; the others where it asks for them.
DEFAULT_METRICS = ("loss", "accuracy")


def recall_of(class_name: str) -> Metric:
    """The recall of one class."""
    return dataclasses.replace(
        METRICS["balanced_accuracy"], name=f"{RECALL}:{class_name}", class_name=class_name
    )


def columns_of(names: Iterable[str]) -> tuple[str, ...]:
    """ "train_loss", ..., "test_accuracy": metrics on each split, as tables and files name them."""
    names = tuple(names)
    return tuple(f"{split}_{name}" for split in SPLITS for name in names)


#: The columns of every study.
SPLIT_METRICS = columns_of(DEFAULT_METRICS)
#: What a study may name, with an example for the metrics of one class.
KNOWN_METRICS = (*columns_of(METRICS), *(f"{split}_{RECALL}:CLASS" for split in SPLITS))


def metric_named(name: str) -> Metric | None:
    """The metric "accuracy", or "recall:cat"; None where there is no such."""
    family, _, class_name = name.partition(":")
    return recall_of(class_name) if family == RECALL and class_name else METRICS.get(name)


def shown_metrics(
    asked: Iterable[str], columns: Iterable[str], class_names: Sequence[str]
) -> tuple[str, ...]:
    """The metrics that a study shows: the default ones, those asked for, and those of these columns.

    asked: "recall" stands for that of every class.
    """
    each = [f"{RECALL}:{name}" for name in class_names] if len(class_names) <= MOST_CLASSES else []
    wanted = [name for item in asked for name in (each if item == RECALL else [item])]
    return tuple(dict.fromkeys((*DEFAULT_METRICS, *wanted, *(metric_of(column).name for column in columns))))


def metric_of(column: str) -> Metric:
    """The metric of a column such as "val_accuracy". Raises UnknownNameError."""
    split, _, name = column.partition("_")
    metric = metric_named(name) if split in SPLITS else None
    if metric is None:
        raise UnknownNameError("metric", column, KNOWN_METRICS)
    return metric


def measure(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Every metric by name, of each class too where there are at most `MOST_CLASSES`.

    logits: (N, classes); labels: (N,), not all of which need be there: the recall of a class without
    samples is NaN.
    """
    counts = confusion(logits, labels)
    present = counts.sum(1) > 0
    for name, metric in METRICS.items():
        if metric.by_sample:
            yield name, float(metric.by_sample(logits, labels).mean())
        elif metric.by_class:
            yield name, float(metric.by_class(counts)[present].mean())
    if len(class_names) <= MOST_CLASSES:
        for class_name, value in zip(class_names, _recall(counts).tolist(), strict=True):
            yield f"{RECALL}:{class_name}", value
