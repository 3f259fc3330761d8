"""Features (N, features, 1, 1): each row of one class, or with numbers to predict (regression)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.metrics import Metric
from bnbench.base.task_facts import IMAGE_CLASSIFICATION
from bnbench.data import Dataset, Sizes
from bnbench.data.prepared import Preparation, Prepared
from bnbench.tasks import Task, tasks
from bnbench.tasks.image_classification import ImageClassification

_FACTS = IMAGE_CLASSIFICATION
#: Targets whose mean or standard deviation is larger, or whose standard deviation is smaller than its inverse, are
#: refused: their squares, multiplied by those of a network that diverges, are more than float64 can hold.
LARGEST_TARGET = 1e30


@tasks.register(
    "tabular",
    metrics=_FACTS.metrics,
    losses=("cross_entropy", "mse", "double_softmax"),
    primary=_FACTS.primary,
    shown=_FACTS.shown,
    per_class=True,
    chance=_FACTS.chance,
    models=("mlp",),
    dataset="breast_cancer",
    kinds=("tabular_regression",),
)
class Tabular(ImageClassification):
    """Features, each row of one class, measured as images are; a file with numbers as targets: tabular_regression."""

    def check(self, dataset: Dataset) -> None:
        """Features, and one class a row."""
        _check_features("tabular", dataset.train_inputs)
        if dataset.train_targets.ndim != 1 or not dataset.class_names:
            raise DataError(
                f"task: tabular: targets of {dataset.train_targets.dtype} and shape "
                f"{tuple(dataset.train_targets.shape)}, {len(dataset.class_names)} classes.",
                "It takes one class a row.",
                "task: tabular_regression for numbers, or the task that the data set is made for.",
            )


@tasks.register(
    "tabular_regression",
    metrics=(
        Metric("loss", "lower"),
        Metric("r2", "higher", lowest=None),
        Metric("mse", "lower"),
        Metric("mae", "lower"),
    ),
    losses=("mse", "mae", "huber"),
    primary="r2",
    shown=("r2", "mse", "mae"),
    chance="R² on the validation part is at most 4 / n, n its samples: no more than the squared correlation that 2 "
    "standard errors of none give",
    models=("mlp",),
    dataset="diabetes",
)
class TabularRegression(Task):
    """Numbers from features: mean squared and absolute error in the targets' own units, R².

    Targets have mean 0 and standard deviation 1 over the training part as a network learns them, each column by itself.
    """

    def check(self, dataset: Dataset) -> None:
        """Features, and one number or more a row."""
        _check_features("tabular_regression", dataset.train_inputs)
        targets = dataset.train_targets
        if targets.ndim != 2 or not targets.is_floating_point():
            raise DataError(
                f"task: tabular_regression: targets of {targets.dtype} and shape {tuple(targets.shape)}.",
                "It takes numbers, one or more a row.",
                "task: tabular for classes, or another data set.",
            )

    def prepare(self, dataset: Dataset, preparation: Preparation, device: torch.device) -> Prepared:
        """As any task does; then targets are standardised by the training part. Raises DataError for constant ones."""
        data = super().prepare(dataset, preparation, device)
        targets = data.train_targets.double().cpu()
        mean, std = targets.mean(0), targets.std(0, correction=0)
        _check_scale(targets, mean, std)
        _check_parts({"validation": data.val_targets, "test": data.test_targets})
        flat = [
            column for column in range(len(std)) if float(std[column]) <= 1e-12 * abs(float(mean[column]))
        ]
        if flat:
            which = "the target" if len(std) == 1 else f"column {flat[0]} of the targets"
            raise DataError(
                f"task: tabular_regression: {which} is {float(mean[flat[0]]):g} in all {len(targets)} samples of "
                "the training part.",
                "A constant has no spread, so there is nothing to learn and no R².",
                "another target, or more training samples (max_train_samples, validation.fraction).",
            )
        ready = replace(data, target_center=mean, target_scale=std)
        return replace(
            ready,
            train_targets=ready.standard_targets(data.train_targets),
            val_targets=ready.standard_targets(data.val_targets),
            test_targets=ready.standard_targets(data.test_targets),
            probe_targets=ready.standard_targets(data.probe_targets),
            notes=(*data.notes, _note(mean, std)),
        )

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise."""
        inputs = torch.randn((count, *sizes.input_shape), generator=draw)
        return inputs, torch.randn((count, sizes.num_outputs), generator=draw)

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterable[tuple[str, float]]:
        """Of outputs and targets (N, columns) as the network learns them, in the targets' own units."""
        scale = 1.0 if data.target_scale is None else data.target_scale
        return _measures(outputs, targets.double(), scale)

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """In units of the training part's standard deviations."""
        return _measures(outputs, targets.double(), 1.0)

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """By R², of which no constant guess has more than 0."""
        return last["val_r2"] > 4 / len(targets)


def _measures(outputs: Tensor, targets: Tensor, scale: Tensor | float) -> Iterator[tuple[str, float]]:
    """scale: one target's standard deviation, by which an error has to be multiplied. Means over rows and columns.

    R² = 1 - Σ (y - output)² / Σ (y - mean of y)² of each column, then their mean; NaN for a constant target.
    """
    errors = outputs - targets
    yield "loss", float(errors.square().mean())
    spread = (targets - targets.mean(0)).square().sum(0)
    shares = errors.square().sum(0) / spread.masked_fill(spread == 0, math.nan)
    yield "r2", float((1 - shares).mean())
    yield "mse", float((errors * scale).square().mean())
    yield "mae", float((errors * scale).abs().mean())


def _check_features(name: str, inputs: Tensor) -> None:
    if inputs.ndim != 4 or inputs.shape[2:] != (1, 1):
        raise DataError(
            f"task: {name}: inputs of {inputs.dtype} and shape {tuple(inputs.shape[1:])} a sample.",
            "It takes features: numbers without a place, of which each is standardised by itself.",
            "the task that the data set is made for, or features (N, features) in a .npz file.",
        )


def _check_parts(parts: Mapping[str, Tensor]) -> None:
    """Raises DataError for a part of one row: it has no spread, and so no R², by which a run is judged."""
    for part, targets in parts.items():
        if len(targets) < 2:
            raise DataError(
                f"task: tabular_regression: the {part} part has {len(targets)} row{'s' if len(targets) != 1 else ''}.",
                "R² compares the errors with the spread of at least 2 rows.",
                "more samples, a larger validation.fraction, or a larger max_eval_samples.",
            )


def _check_scale(targets: Tensor, mean: Tensor, std: Tensor) -> None:
    """Raises DataError for targets so large or small that their squares leave float64's range: no MSE, no R²."""
    constant = (targets == targets[0]).all(0).tolist()
    for column, (center, spread) in enumerate(zip(mean.tolist(), std.tolist(), strict=True)):
        if max(abs(center), spread) <= LARGEST_TARGET and (constant[column] or spread >= 1 / LARGEST_TARGET):
            continue
        which = "the target has" if len(std) == 1 else f"column {column} of the targets has"
        size = "large" if max(abs(center), spread) > LARGEST_TARGET else "small"
        raise DataError(
            f"task: tabular_regression: {which} {center:.4g} ± {spread:.4g} in the training part, which is too {size}.",
            f"Its squares, of which mse is made, would leave the range of float64. Mean and standard deviation may be "
            f"{LARGEST_TARGET:.0e} at most, and the standard deviation {1 / LARGEST_TARGET:.0e} at least.",
            "the target in another unit, or its logarithm.",
        )


def _note(mean: Tensor, std: Tensor) -> str:
    """Which numbers are in which units."""
    columns = [f"{one:.4g} ± {other:.4g}" for one, other in zip(mean.tolist(), std.tolist(), strict=True)]
    more = f" and {len(columns) - 3} more columns" if len(columns) > 3 else ""
    return (
        f"targets have {'; '.join(columns[:3])}{more} in the training part (mean ± standard deviation), which is taken "
        "out as the network learns them: loss is in those units, mse and mae in the targets' own"
    )
