"""What is known of a metric without computing it: names, directions, units, bounds.

A task (`bnbench.tasks`) computes its metrics; what plans, keeps and reports reads these facts alone, and needs no
torch. The metrics of classification stand here; those of another task are declared when it is registered, or when a
results folder that holds them is read. The number of one class is a metric of its own, `recall:CLASS`; which classes
there are is known once the data is there.

A column is a metric on a part, such as "val_accuracy". A part is the training probe, the validation part, the test
part, a further test set of the study ("dark_accuracy"), or a gap: the difference of two parts.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bnbench.base.errors import PluginError, UnknownNameError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
#: The generalization gaps, and the two parts whose difference each is: the first minus the second. The train number
#: is that of the fixed training probe. "val_gap" is for decisions during training, which never see the test part.
GAPS: dict[str, tuple[str, str]] = {"gap": ("test", "train"), "val_gap": ("val", "train")}

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

    @property
    def highest(self) -> float:
        """The largest possible value."""
        return 1.0 if self.percent else math.inf

    @property
    def bounds(self) -> str:
        """The possible values in words."""
        if self.percent:
            return "a share, from 0 to 1" if self.lowest == 0 else "a difference of two shares, from -1 to 1"
        return "any number" if self.lowest is None else f"never below {self.lowest:g}"

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


@functools.lru_cache(maxsize=2048)
def recall_of(class_name: str) -> Metric:
    """The recall of one class."""
    return dataclasses.replace(
        METRICS["balanced_accuracy"], name=f"{RECALL}:{class_name}", class_name=class_name
    )


def columns_of(names: Iterable[str], parts: Iterable[str] = SPLITS) -> tuple[str, ...]:
    """For example "train_loss", ..., "test_accuracy": metrics on each part, as tables and files name them."""
    names = tuple(names)
    return tuple(f"{part}_{name}" for part in parts for name in names)


@functools.lru_cache(maxsize=8192)
def parted(column: str) -> tuple[str, str]:
    """The part and the metric of a column: ("val", "macro_f1") of "val_macro_f1", ("gap", "loss") of "gap_loss"."""
    gap = next((gap for gap in GAPS if column.startswith(f"{gap}_")), None)
    part, _, name = column.partition("_")
    return (gap, column.removeprefix(f"{gap}_")) if gap else (part, name)


def value_of(values: Mapping[str, float], column: str) -> float:
    """The number of a column among those of one evaluation; a gap is computed. NaN where there is none."""
    part, name = parted(column)
    if part not in GAPS:
        return values.get(column, math.nan)
    first, second = (values.get(f"{part}_{name}", math.nan) for part in GAPS[part])
    return first - second


def metric_named(name: str) -> Metric | None:
    """The metric "accuracy", or "recall:cat"; None where no metric has that name."""
    family, _, class_name = name.partition(":")
    return recall_of(class_name) if family == RECALL and class_name else METRICS.get(name)


@functools.lru_cache(maxsize=256)
def are_shares(columns: tuple[str, ...]) -> tuple[bool, ...]:
    """Of each of these columns, whether it is known and holds numbers from 0 to 1."""
    metrics = (metric_named(parted(column)[1]) for column in columns)
    return tuple(metric is not None and metric.percent for metric in metrics)


def metric_of(column: str) -> Metric:
    """The metric of a column such as "val_accuracy", on whatever part. Raises UnknownNameError.

    Of a gap, the same direction is better: a lower "gap_loss", a higher "gap_accuracy" (which is negative where the
    network is better on what it was trained on).
    """
    part, name = parted(column)
    metric = metric_named(name) if part.isidentifier() else None
    if metric is None:
        raise UnknownNameError("metric", column, columns_of([*METRICS, f"{RECALL}:CLASS"], (*SPLITS, *GAPS)))
    return gap_in(metric) if part in GAPS else metric


def gap_in(metric: Metric) -> Metric:
    """The difference of two of its values."""
    return dataclasses.replace(metric, lowest=-1.0 if metric.percent else None)


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
            are_shares.cache_clear()


def same_meaning(one: Metric, other: Metric) -> bool:
    """Whether numbers of one can stand beside numbers of the other."""
    return (one.better, one.percent) == (other.better, other.percent)


def _meaning(metric: Metric) -> str:
    return f"{metric.better} is better, {'a share' if metric.percent else 'a number'}"
