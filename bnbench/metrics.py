"""What is measured on logits and labels. One `Metric` here, and it is evaluated, stored and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bnbench.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Metric:
    """A number per sample, averaged over a split.

    compute: logits (N, classes), labels (N,) -> one value per sample, (N,).
    percent: shown as a percentage.
    """

    name: str
    better: Literal["lower", "higher"]
    percent: bool
    compute: Callable[[Tensor, Tensor], Tensor]

    def reaches(self, value: float, target: float) -> bool:
        """Whether `value` is at least as good as `target`. NaN never is."""
        return value <= target if self.better == "lower" else value >= target


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the softmax of the logits, in nats: never smoothed, never doubled."""
    return logits.logsumexp(-1) - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the largest logit is the label's, else 0 (logits that hold a NaN are always wrong)."""
    right = logits.argmax(-1) == labels
    return (right & ~logits.isnan().any(-1)).to(logits.dtype)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("loss", "lower", False, _loss),
        Metric("accuracy", "higher", True, _accuracy),
    )
}

#: "train_loss", "val_loss", ..., "test_accuracy": the columns of every table and file.
SPLIT_METRICS: tuple[str, ...] = tuple(f"{split}_{name}" for split in SPLITS for name in METRICS)


def metric_of(column: str) -> Metric:
    """The metric of a column such as "val_accuracy". Raises UnknownNameError."""
    split, _, name = column.partition("_")
    if split not in SPLITS or name not in METRICS:
        raise UnknownNameError("metric", column, SPLIT_METRICS)
    return METRICS[name]
