"""Looking more than once at 5 %: the arithmetic of `seeds: auto`. Plain numbers in, plain numbers out.

A study is looked at when n_1 < ... < n_K = N seeds are there, fixed before its first run. Look j may
spend the share w_j of the 5 %. P_j, the smallest p_i / w_i of the looks so far, is a p value at whatever
look one stops: P(P_K <= a) <= sum of P(p_j <= a w_j) <= a, however the looks depend on each other (a union
bound; Holm needs no more). It never grows, so that no verdict is taken back. Weighted alpha spending:
Lan and DeMets 1983 with the spending function (n/N)^2; repeated intervals: Jennison and Turnbull 1989.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bnbench.analysis.intervals import ALPHA, Interval, holm

#: From so many seeds on a comparison may be given up as hopeless: fewer don't know their own scatter.
MIN_FUTILE = 8

#: Why a comparison gets no more seeds. unlikely: the seeds that are left would hardly decide it. lost: a
#: number of a pair is missing, which no further seed mends. last: all N are there. "": it goes on.
Stopped = Literal["", "decided", "unlikely", "lost", "last"]


@dataclass(frozen=True)
class Seen:
    """One comparison at one look: two-sided p, the p of the two one-sided tests where there is a margin.

    rises: whether the mean difference is above 0. futile: `is_futile` at this look. lost: a pair is incomplete,
    so that this look decides nothing.
    """

    p: float
    rises: bool
    margin_p: float | None = None
    futile: bool = False
    lost: bool = False


@dataclass
class Track:
    """One comparison over its looks. p, margin_p: sequential; p_holm, margin_holm: after Holm's correction.

    rises: the direction at the look whose p counts. decided: "" while it is not.
    """

    p: float = 1.0
    margin_p: float = 1.0
    p_holm: float = 1.0
    margin_holm: float = 1.0
    rises: bool = True
    decided: Literal["", "different", "same"] = ""
    stopped: Stopped = ""
    num_looks: int = 0

    def take(self, seen: Seen, weight: float) -> None:
        """Spend a look."""
        self.num_looks += 1
        if seen.lost:
            self.stopped = "lost"
            return
        if seen.p / weight < self.p:
            self.p, self.rises = seen.p / weight, seen.rises
        if seen.margin_p is not None:
            self.margin_p = min(self.margin_p, seen.margin_p / weight)
        self.stopped = "unlikely" if seen.futile else ""


def weights(looks: Sequence[int]) -> tuple[float, ...]:
    """The share of the 5 % that each look may spend: (n_j/N)^2 - (n_(j-1)/N)^2. They sum to 1."""
    most = looks[-1]
    return tuple(
        (look**2 - before**2) / most**2 for look, before in zip(looks, (0, *looks[:-1]), strict=True)
    )


def decide(tracks: Sequence[Track]) -> None:
    """Holm's correction over the family at one look: decides what can be decided, and keeps what was.

    Inside the margin counts first, where one look shows both: a difference that is sure but too small to matter
    is none.
    """
    for track, p, margin_p in zip(
        tracks, holm([t.p for t in tracks]), holm([t.margin_p for t in tracks]), strict=True
    ):
        track.p_holm, track.margin_holm = p, margin_p
        if track.decided or track.stopped == "lost":
            continue
        if margin_p <= ALPHA:
            track.decided = "same"
        elif p <= ALPHA:
            track.decided = "different"
        if track.decided:
            track.stopped = "decided"


def needed_t(looks: Sequence[int], index: int, comparisons: int = 1) -> float:
    """How large |t| must be at a look, for the step of Holm's correction with so many comparisons left."""
    return _quantile(looks[index] - 1, 1 - ALPHA * weights(looks)[index] / (2 * comparisons))


def repeated_interval(mean: float, scatter: float, n: int, weight: float, alpha: float = ALPHA) -> Interval:
    """mean ± t(1 - alpha w / 2) s / √n: the intervals of all looks hold together with 1 - alpha."""
    half = _quantile(n - 1, 1 - alpha * weight / 2) * scatter / math.sqrt(n)
    return mean - half, mean + half


def is_futile(mean: float, scatter: float, n: int, looks: Sequence[int], margin: float | None = None) -> bool:
    """Whether the last look would not decide it even if the truth were one standard error better than what is seen.

    That is asked of a difference, and with a margin of equivalence too. Giving up is not binding: it can only
    lower the share of false verdicts.
    """
    most, last = looks[-1], weights(looks)[-1]
    if not MIN_FUTILE <= n < most or not scatter:
        return False
    error = scatter / math.sqrt(n)
    unit = scatter / math.sqrt(most)
    if (abs(mean) + error) / unit >= _quantile(most - 1, 1 - ALPHA * last / 2):
        return False
    return margin is None or (margin - max(abs(mean) - error, 0)) / unit < _quantile(
        most - 1, 1 - ALPHA * last
    )


def _quantile(freedom: int, probability: float) -> float:
    from scipy import special

    return float(special.stdtrit(freedom, probability))
