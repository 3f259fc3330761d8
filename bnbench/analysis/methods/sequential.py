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

from bnbench.analysis.methods.intervals import ALPHA, Interval, holm, std

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

    rises: the direction at the look whose p counts. differs_now, same_now: whether the last look by itself says
    so too. decided: "" while it is not.
    """

    p: float = 1.0
    margin_p: float = 1.0
    p_holm: float = 1.0
    margin_holm: float = 1.0
    rises: bool = True
    differs_now: bool = False
    same_now: bool = False
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
        self.differs_now = seen.p / weight <= ALPHA and seen.rises == self.rises
        if seen.margin_p is not None:
            self.margin_p = min(self.margin_p, seen.margin_p / weight)
            self.same_now = seen.margin_p / weight <= ALPHA
        self.stopped = "unlikely" if seen.futile else ""


def weights(looks: Sequence[int]) -> tuple[float, ...]:
    """The share of the 5 % that each look may spend: (n_j/N)^2 - (n_(j-1)/N)^2. They sum to 1."""
    most = looks[-1]
    return tuple(
        (look**2 - before**2) / most**2 for look, before in zip(looks, (0, *looks[:-1]), strict=True)
    )


def decide(tracks: Sequence[Track], names: Sequence[str]) -> int:
    """Holm's correction over the family at one look: decides what can be decided, and keeps what was.

    names: comparisons of one name have the same results and count once, with their largest P. Inside the
    margin counts first, where one look shows both: a difference that is sure but too small to matter is none.
    A result of an earlier look that Holm's correction allows only now counts where the last look agrees: a
    verdict does not contradict the interval beside it, and asking for more can only lower the false ones. Returns
    how many comparisons there are.
    """
    p_values = _holm_once(names, [track.p for track in tracks])
    margin_p_values = _holm_once(names, [track.margin_p for track in tracks])
    for track, name in zip(tracks, names, strict=True):
        track.p_holm, track.margin_holm = p_values[name], margin_p_values[name]
        if track.decided or track.stopped == "lost":
            continue
        if track.margin_holm <= ALPHA and track.same_now:
            track.decided = "same"
        elif track.p_holm <= ALPHA and track.differs_now:
            track.decided = "different"
        if track.decided:
            track.stopped = "decided"
    return len(p_values)


def _holm_once(names: Sequence[str], p_values: Sequence[float]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for name, p in zip(names, p_values, strict=True):
        largest[name] = max(largest.get(name, 0.0), p)
    return dict(zip(largest, holm(list(largest.values())), strict=True))


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
    if not MIN_FUTILE <= n < most:
        return False
    if not scatter:
        return mean == 0 and margin is None
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


def weight_of(n: int, looks: Sequence[int]) -> float:
    """The share of the 5 % at n seeds: all of it for a fixed number of seeds; the least where n is not a look."""
    shares = weights(looks) if looks else (1.0,)
    return shares[looks.index(n)] if n in looks else min(shares)


def scatter_of(values: Sequence[float], least: float = 0.0) -> float:
    """The standard deviation (n-1), at least `least`, the standard deviation of the rounding."""
    return max(std(values), least)


def tail(values: Sequence[float], distance: float, least: float = 0.0) -> float:
    """P(T > distance / standard error) of Student's t; without any scatter 0, 1/2 or 1."""
    from scipy import special

    error = scatter_of(values, least) / math.sqrt(len(values))
    if not error:
        return 0.5 if distance == 0 else float(distance < 0)
    return float(special.stdtr(len(values) - 1, -distance / error))
