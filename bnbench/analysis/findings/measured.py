"""What one's own runs gave for a claim: a number a seed and side, their mean, its interval, and the prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from bnbench.analysis.methods.intervals import CONFIDENCE, mean, std
from bnbench.analysis.methods.prediction import Prediction, predicted_sum
from bnbench.analysis.shares import share_interval

Sides = tuple[tuple[float, ...], ...]


class Estimate(Protocol):
    """An estimate with intervals and p values, on the scale of the arithmetic."""

    @property
    def centre(self) -> float:
        """The estimate; infinite, or NaN, where it is open on a side."""

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Its interval, infinite on an open side."""

    def p(self, low: float, high: float) -> float:
        """Two-sided p of the number in low to high that is nearest: below 5 % where the 95 % interval excludes it."""


@dataclass(frozen=True)
class Measured:
    """The values of a claim's quantity, seed by seed.

    sides: of every quantity in it (A and B of A - B) the values of the seeds that have them all, in one order; signs:
    +1 or -1 of each. most: where values are known between bounds alone, the sides that make the quantity largest;
    `sides` then make it smallest. errors: of each side, the standard deviation of its rounding, on the scale of the
    arithmetic. ratio: A / B, whose arithmetic is of logarithms. shares: every value is 0 or 1. planned: seeds of the
    study. percent: whether it is a share. note: why values are missing, or what limits them.
    """

    seeds: tuple[int, ...]
    sides: Sides
    signs: tuple[int, ...] = (1,)
    most: Sides = ()
    ratio: bool = False
    shares: bool = False
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
    def is_positive(self) -> bool:
        """Whether a ratio can be formed: every exact value is above 0."""
        return not self.ratio or bool(self.most) or min(map(min, self.sides), default=1) > 0

    def values(self, sides: Sides | None = None) -> tuple[float, ...]:
        """A - B of each seed, and the like; log(A / B) of a ratio."""
        scaled = self._scaled(self.sides if sides is None else sides)
        return tuple(
            _sum([sign * value for sign, value in zip(self.signs, of_seed, strict=True)])
            for of_seed in zip(*scaled, strict=True)
        )

    def _scaled(self, sides: Sides) -> Sides:
        return tuple(tuple(map(_log, side)) for side in sides) if self.ratio else sides

    def inner(self, number: float) -> float:
        """A number of the quantity's scale on the scale of the arithmetic."""
        return _log(number) if self.ratio else number

    def outer(self, number: float) -> float:
        """The way back."""
        if not self.ratio or math.isnan(number):
            return number
        return math.inf if number > 700 else math.exp(number)

    def without_values(self, note: str) -> Measured:
        """The same where there is nothing to compute with."""
        return replace(self, seeds=(), sides=tuple(() for _ in self.signs), most=(), note=note)

    def estimate(self) -> Estimate | None:
        """Of the mean over the seeds; None below two.

        Student's t, whose scatter is at least that of the rounding of all sides. Between bounds the lower end is that
        of what each value is at least, the upper end of what it is at most. Shares have an exact interval.
        """
        if self.n < 2:
            return None
        if self.shares:
            counts = tuple((round(math.fsum(side)), self.n) for side in self.sides)
            return _Shares(self.signs, counts)
        least = self._of_mean(self.values())
        return _Between(least, self._of_mean(self.values(self.most))) if self.most else least

    def _of_mean(self, values: tuple[float, ...]) -> Prediction:
        if not all(map(math.isfinite, values)):
            return Prediction(next(value for value in values if not math.isfinite(value)), 0.0, math.inf)
        spread = max(std(values), math.hypot(*self.errors))
        return Prediction(mean(values), spread / math.sqrt(self.n), self.n - 1)

    def prediction(self, runs: float) -> Prediction | None:
        """Where a published mean of so many runs is expected; None where our values are bounds alone."""
        if self.most:
            return None
        return predicted_sum(self._scaled(self.sides), self.signs, runs, self.errors)


@dataclass(frozen=True)
class _Between:
    """Means of what the values are at least, and at most."""

    least: Prediction
    most: Prediction

    @property
    def centre(self) -> float:
        return (self.least.centre + self.most.centre) / 2

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        return self.least.interval(confidence)[0], self.most.interval(confidence)[1]

    def p(self, low: float, high: float) -> float:
        if high < self.least.centre:
            return self.least.p(low, high)
        return self.most.p(low, high) if low > self.most.centre else 1.0


@dataclass(frozen=True)
class _Shares:
    """A signed sum of shares, each of `counts` (how many of how many seeds)."""

    signs: tuple[int, ...]
    counts: tuple[tuple[int, int], ...]

    @property
    def centre(self) -> float:
        return math.fsum(sign * count / n for sign, (count, n) in zip(self.signs, self.counts, strict=True))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        low, high = share_interval(self.signs, self.counts, 1 - confidence)
        return (-math.inf if low is None else low), (math.inf if high is None else high)

    def p(self, low: float, high: float) -> float:
        """The level at which the interval just excludes it, by bisection."""
        holds, excludes = 1e-12, 1.0
        for _ in range(50):
            middle = math.sqrt(holds * excludes)
            least, most = self.interval(1 - middle)
            if high < least or low > most:
                excludes = middle
            else:
                holds = middle
        return excludes


def _sum(values: list[float]) -> float:
    """Infinite where one of them is: no quantity has infinities of both signs."""
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


def _log(value: float) -> float:
    if value <= 0:
        return -math.inf
    return math.log(value) if value < math.inf else math.inf
