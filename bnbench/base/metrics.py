"""What is known of a metric without computing it: names, directions, units, bounds.

A task (`bnbench.tasks`) computes its metrics; what plans, keeps and reports reads these facts alone, and needs no
torch. The metrics of classification stand here; those of another task are declared when it is registered, or when a
results folder that holds them is read. The number of one class is a metric of its own, `recall:CLASS`; which classes
there are is known once the data is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bnbench.base.errors import PluginError, UnknownNameError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

#: The recall of every class, where a study asks for all; "recall:cat" is the recall of one class.
RECALL = "recall"
#: The recall of each class is measured with at most so many classes.
MOST_CLASSES = 100


@dataclass(frozen=True)
class Metric:
    """One number for a split.

    percent: a share from 0 to 1, printed as a percentage. lowest: the smallest possible value; None if unbounded.
    largest_change: see `granularity`. class_name: of a metric of one class.
    """

    name: str
    better: Literal["lower", "higher"]
    percent: bool = False
    lowest: float | None = 0.0
    largest_change: Callable[[Sequence[int]], float] | None = None
    class_name: str | None = None

    def reaches(self, value: float, target: float) -> bool:
        """Whether `value` is at least as good as `target`. NaN never is."""
        return value <= target if self.better == "lower" else value >= target

    def granularity(self, counts: Sequence[int], class_names: Sequence[str] = ()) -> float | None:
        """The largest change that the answer on one sample can make; None where it has no bound (a loss).

        counts: samples of each class. class_names: in the same order; without them the recall of one
        class is taken for the recall of the smallest class, which changes most. None also without any sample.
        """
        if self.class_name is not None and self.class_name in class_names:
            counts = [counts[list(class_names).index(self.class_name)]]
        present = sorted(count for count in counts if count)
        if self.largest_change is None or not present:
            return None
        return self.largest_change(present[:1] if self.class_name is not None else present)


def _one_in_all(sizes: Sequence[int]) -> float:
    return 1 / sum(sizes)


def _one_in_its_class(sizes: Sequence[int]) -> float:
    """Of a mean over classes of a share: largest where the class is the smallest. sizes: ascending, none 0."""
    return 1 / (len(sizes) * sizes[0])


def _largest_change_of_f1(sizes: Sequence[int]) -> float:
    """A bound on the change of macro F1 by one answer. sizes: ascending, none 0.

    A sample of class a that was taken for b is now taken for a. F1 of a grows by 2 (n + p - TP) / ((n + p)
    (n + p + 1)), with n its samples and p the samples taken for it: at most 2 / (n + 1), where p = TP = 0. F1 of b
    grows by 2 TP / ((n + p) (n + p - 1)) with p > TP: at most 1 / (2n + 1), where TP = n. Both bounds fall
    with n, so the two smallest classes have the largest sum. Any other change of one answer is smaller.
    """
    pairs = [(sizes[0], sizes[1]), (sizes[1], sizes[0])] if len(sizes) > 1 else []
    changes = [2 / (one + 1) + 1 / (2 * other + 1) for one, other in pairs] or [2 / (sizes[0] + 1)]
    return max(changes) / len(sizes)


#: Every metric that is known: those of classification, and those that were declared.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("loss", "lower"),
        Metric("accuracy", "higher", True, largest_change=_one_in_all),
        Metric("balanced_accuracy", "higher", True, largest_change=_one_in_its_class),
        Metric("macro_f1", "higher", True, largest_change=_largest_change_of_f1),
    )
}
#: Of every task that tells classes apart.
CLASSIFICATION = tuple(METRICS.values())


def recall_of(class_name: str) -> Metric:
    """The recall of one class."""
    return dataclasses.replace(
        METRICS["balanced_accuracy"], name=f"{RECALL}:{class_name}", class_name=class_name
    )


def columns_of(names: Iterable[str]) -> tuple[str, ...]:
    """For example "train_loss", ..., "test_accuracy": metrics on each split, as tables and files name them."""
    names = tuple(names)
    return tuple(f"{split}_{name}" for split in SPLITS for name in names)


def metric_named(name: str) -> Metric | None:
    """The metric "accuracy", or "recall:cat"; None where no metric has that name."""
    family, _, class_name = name.partition(":")
    return recall_of(class_name) if family == RECALL and class_name else METRICS.get(name)


def metric_of(column: str) -> Metric:
    """The metric of a column such as "val_accuracy". Raises UnknownNameError."""
    split, _, name = column.partition("_")
    metric = metric_named(name) if split in SPLITS else None
    if metric is None:
        raise UnknownNameError("metric", column, columns_of([*METRICS, f"{RECALL}:CLASS"]))
    return metric


def declare(metrics: Iterable[Metric], kept: Iterable[Metric] | None = None) -> None:
    """Register metrics by their names for the life of the process: reports need them long after a run.

    kept: metrics that can't be replaced; None: all registered ones. Any other is replaced, such as a metric of a
    plugin that is loaded again after a change. Raises PluginError where a name means something else already.
    """
    held = METRICS if kept is None else {metric.name: metric for metric in (*CLASSIFICATION, *kept)}
    for metric in metrics:
        before = held.get(metric.name)
        if before and not same_meaning(before, metric):
            raise PluginError(
                f'the metric "{metric.name}" is known already, and is another one: {_meaning(before)}, not '
                f"{_meaning(metric)}.",
                "One name is one column in tables and files.",
                "give it another name.",
            )
        if metric.name not in METRICS or not same_meaning(METRICS[metric.name], metric):
            METRICS[metric.name] = metric


def same_meaning(one: Metric, other: Metric) -> bool:
    """Whether numbers of one can stand beside numbers of the other."""
    return (one.better, one.percent) == (other.better, other.percent)


def _meaning(metric: Metric) -> str:
    return f"{metric.better} is better, {'a share' if metric.percent else 'a number'}"
