"""The steps of a normalizer on one small batch, with their numbers. Plain values, free of torch."""

from __future__ import annotations

from dataclasses import dataclass

Row = tuple[float, ...]
#: Rows of numbers.
Matrix = tuple[Row, ...]


@dataclass(frozen=True)
class Updated:
    """The layer in evaluation after so many updates of its running statistics with the same batch."""

    updates: int
    mean: Row
    var: Row
    y: Matrix


@dataclass(frozen=True)
class WorkedSteps:
    """Every number of one batch on its way through a normalizer and back.

    over_samples: whether a statistic is over samples (of a feature), else over features (of a sample). centres,
    divides: whether the mean is taken out, and whether x is divided by the root. part: samples whose statistics are
    taken together. x, y, dy, dx: (samples, features); mean, var: a row for each part of the batch, or for each sample;
    var is the mean square where nothing is centred. gamma, beta: None where the layer has none. sums: of dx, and of
    dx times x̂, over what a statistic is over; laid out as mean. updated: in evaluation, where there are running
    statistics; momentum: the weight of the new value; biased: whether they keep the biased variance. alone: y of the
    first sample as a batch by itself; refusal: what the layer says to that batch in training, "" where it takes it.
    largest_gap: the largest difference of any of these numbers from the registered layer's.
    """

    norm: str
    over_samples: bool
    centres: bool
    divides: bool
    part: int
    eps: float
    x: Matrix
    mean: Matrix
    var: Matrix
    x_hat: Matrix
    gamma: Row | None
    beta: Row | None
    y: Matrix
    dy: Matrix
    dx: Matrix
    sums: tuple[Matrix, Matrix]
    updated: tuple[Updated, ...]
    momentum: float
    biased: bool
    alone: Matrix
    refusal: str
    largest_gap: float
