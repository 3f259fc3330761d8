"""What one's own runs gave for a claim: a number a seed and side, their mean, its interval, and the prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bnbench.analysis.methods.intervals import CONFIDENCE, mean, std
from bnbench.analysis.methods.prediction import Prediction, predicted_sum, two_sided


@dataclass(frozen=True)
class Measured:
    """The values of a claim's quantity, seed by seed.

    sides: of every quantity in it (A and B of A - B) the values of the seeds that have them all, in one order; signs:
    +1 or -1 of each. errors: of each, the standard deviation of its rounding, on the scale of the arithmetic. ratio:
    A / B, whose arithmetic is of logarithms. planned: seeds of the study. percent: whether it is a share. note: why
    values are missing, or what limits them.
    """

    seeds: tuple[int, ...]
    sides: tuple[tuple[float, ...], ...]
    signs: tuple[int, ...] = (1,)
    ratio: bool = False
    planned: int = 0
    errors: tuple[float, ...] = ()
    percent: bool = False
    note: str = ""

    @property
    def n(self) -> int:
        """How many seeds have a value."""
        return len(self.seeds)

    @property
    def is_single(self) -> bool:
        """Whether it is one quantity, so that no value of it means "no effect"."""
        return len(self.sides) == 1

    @property
    def scaled(self) -> tuple[tuple[float, ...], ...]:
        """The sides on the scale of the arithmetic; those of a ratio are above 0."""
        return tuple(tuple(map(math.log, side)) for side in self.sides) if self.ratio else self.sides

    @property
    def values(self) -> tuple[float, ...]:
        """A - B of each seed, and the like; log(A / B) of a ratio."""
        return tuple(
            math.fsum(sign * value for sign, value in zip(self.signs, of_seed, strict=True))
            for of_seed in zip(*self.scaled, strict=True)
        )

    def inner(self, number: float) -> float:
        """A number of the quantity's scale on the scale of the arithmetic."""
        if not self.ratio:
            return number
        return math.log(number) if number > 0 else -math.inf

    def outer(self, number: float) -> float:
        """The way back."""
        return math.exp(number) if self.ratio else number

    def estimate(self) -> Prediction | None:
        """Student's t of the mean of the paired values: for intervals and p values. None below two seeds.

        The scatter is at least that of the rounding of all sides.
        """
        if self.n < 2:
            return None
        spread = max(std(self.values), math.hypot(*self.errors))
        return Prediction(mean(self.values), spread / math.sqrt(self.n), self.n - 1)

    def prediction(self, runs: float) -> Prediction | None:
        """Where a published mean of so many runs is expected (see `methods/prediction.py`)."""
        return predicted_sum(self.scaled, self.signs, runs, self.errors)


def p_of(estimate: Prediction, number: float) -> float:
    """Two-sided p of a mean of `number`: below 5 % where the 95 % interval excludes it."""
    if math.isinf(number):
        return 0.0
    return two_sided(abs(estimate.centre - number), estimate.error, estimate.freedom)


def interval_of(
    estimate: Prediction | None, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """The interval of the mean, None where there is no estimate."""
    return estimate.interval(confidence) if estimate else (None, None)
