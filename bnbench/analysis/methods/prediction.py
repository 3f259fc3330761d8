"""Where a published result should lie, if it came from the same distribution as one's own runs.

A confidence interval is about the mean of one's own runs. A published number is the mean of k runs of somebody
else, mostly of one: it scatters by itself. With n own runs of standard deviation s, a mean of k further runs lies in
mean ± t(n-1) s √(1/k + 1/n) with 95 % probability (Hahn and Meeker 1991, Statistical Intervals, section 4.7). k = 1
is a single run; k = infinity is a number without scatter, such as a theory's, and gives the confidence interval.

The difference of two separately published runs has the variance s_A² + s_B², not that of the paired difference: the
paper's runs did not share their initial weights and batches. Its degrees of freedom are Welch's (1947).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnbench.analysis.methods.intervals import CONFIDENCE, mean, std, t_quantile


@dataclass(frozen=True)
class Prediction:
    """Student's t with these degrees of freedom, moved to `centre` and scaled by `error`: where a result is expected.

    freedom: infinite where the error is 0.
    """

    centre: float
    error: float
    freedom: float

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The symmetric interval that holds the published result with this probability."""
        if not self.error:
            return self.centre, self.centre
        half = t_quantile(self.freedom, (1 + confidence) / 2) * self.error
        return self.centre - half, self.centre + half

    def p(self, low: float, high: float) -> float:
        """Two-sided p of the value between low and high (a rounded number) that is nearest to the centre."""
        nearest = min(max(self.centre, low), high)
        return two_sided(abs(nearest - self.centre), self.error, self.freedom)


def predicted_sum(
    sides: Sequence[Sequence[float]], signs: Sequence[int], runs: float, errors: Sequence[float] = ()
) -> Prediction | None:
    """Where a signed sum such as A - B is expected, each side a mean of `runs` runs that were published apart.

    The variance is the sum of s² (1/k + 1/n) over the sides: (s_A² + s_B²) (1/k + 1/n) for A - B with n values each.
    errors: of each side, the standard deviation of its rounding, below which no scatter is believed (1/(N √12) of a
    share of N samples). None where a side has fewer than 2 values.

    Examples
    --------
    Five values, one further run: 10 ± t(4) · 1.5811 · √(1 + 1/5).

    >>> low, high = predicted_sum([[8, 9, 10, 11, 12]], [1], runs=1).interval()
    >>> round(low, 3), round(high, 3)
    (5.191, 14.809)

    With k infinite it is Welch's interval: Student's sleepless patients as two groups (R: -3.3655 to 0.2055).

    >>> first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    >>> second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    >>> low, high = predicted_sum([first, second], [1, -1], runs=math.inf).interval()
    >>> round(low, 4), round(high, 4)
    (-3.3655, 0.2055)
    """
    if min(map(len, sides)) < 2:
        return None
    floors = errors or [0.0] * len(sides)
    spreads = [max(std(side), floor) for side, floor in zip(sides, floors, strict=True)]
    parts = [spread**2 * (1 / runs + 1 / len(side)) for spread, side in zip(spreads, sides, strict=True)]
    centre = math.fsum(sign * mean(side) for sign, side in zip(signs, sides, strict=True))
    total = math.fsum(parts)
    if not total:
        return Prediction(centre, 0.0, math.inf)
    shares = [part / total for part in parts]
    freedom = 1 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True))
    return Prediction(centre, math.sqrt(total), freedom)


def two_sided(distance: float, error: float, freedom: float) -> float:
    """P(|T| >= distance / error), T of Student; without an error 1 at no distance, else 0."""
    if not error:
        return 1.0 if distance == 0 else 0.0
    from scipy import special

    return 2 * float(special.stdtr(freedom, -distance / error))
