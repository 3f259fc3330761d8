"""What the seeds say without a normal distribution: sign flips as a check, a bootstrap where there are many.

Random draws come from a private generator with a fixed seed: the same folder gives the same numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from bnbench.analysis.methods.intervals import ALPHA, mean, paired_p, scatter, std

#: From so many pairs on all sign patterns together can say 5 %: 2 / 2^6 = 0.03.
MIN_SIGN_FLIP = 6
#: Up to so many pairs all 2^n sign patterns are tried; beyond, RESAMPLES drawn ones.
MAX_EXACT = 20
#: From so many pairs on the bootstrap gives the interval and the verdict.
MIN_BOOTSTRAP = 20
RESAMPLES = 9_999

_SEED = 20_250_101
#: Larger tables of draws are not kept: 80 MB.
_LARGEST_KEPT = 10_000_000
#: So many draws at a time stay in the processor's cache.
_IN_CACHE = 32_768


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the sign-flip test (Fisher 1935): the share of sign patterns with as large a |sum|.

    Exact for any symmetric distribution of the differences. None for fewer than 6 pairs, where no
    pattern could reach 5 %. Up to 20 pairs over all 2^n patterns, beyond over 9,999 drawn ones and
    the observed one.

    Examples
    --------
    Darwin's maize, crossed minus self-fertilised: 1,726 of 32,768 patterns (Fisher 1935, section 21).

    >>> maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    >>> round(sign_flip_p(maize) * 32768)
    1726
    """
    n = len(differences)
    if n < MIN_SIGN_FLIP:
        return None
    import numpy as np

    values = np.abs(np.asarray(differences))
    limit = abs(math.fsum(differences)) - 1e-12 * float(values.sum())  # equal sums, but for rounding
    if n <= MAX_EXACT:
        sums = values[:1]  # the first sign is free: a pattern and its opposite have the same |sum|
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= limit).mean())
    return float(1 + (np.abs(_drawn(n, _signs) @ values) >= limit).sum()) / (RESAMPLES + 1)


def bootstrap_t(
    differences: Sequence[float], grain: float = 0.0, alpha: float = ALPHA
) -> tuple[float, float, float] | None:
    """Studentised bootstrap of the mean: interval at 1 - alpha (low, high) and the two-sided p value.

    The symmetric bootstrap-t (Hall 1988; Efron and Tibshirani 1993, chapter 12): mean ± q · se, where
    q is the quantile of |mean* - mean| / se* over resamples, in the place of Student's t. The
    equal-tailed one keeps less than 95 % where differences have heavy tails, as those of two equal
    variants may (docs/statistics.md has the numbers). p is at most 5 % where the 95 % interval excludes 0.
    Where no resample is as large, draws can't tell a p below 1 / 10,000, and a family of over 500
    comparisons could never decide anything: then p is Student's, at most that.
    None where the differences scatter no more than the grain allows, where resamples without scatter
    leave the quantile undefined, and where alpha is too small for the number of resamples.
    """
    import numpy as np

    n, centre = len(differences), mean(differences)
    spread = std(differences)
    last = math.ceil((RESAMPLES + 1) * (1 - alpha) - 1e-9)
    if not spread or spread < scatter(differences, grain) or last > RESAMPLES:
        return None
    error = spread / math.sqrt(n)
    ratios = np.sort(np.abs(_studentised(np.asarray(differences) - centre, grain)))
    quantile = float(ratios[last - 1])
    if not math.isfinite(quantile):
        return None
    as_large = RESAMPLES - int(np.searchsorted(ratios, abs(centre) / error, side="left"))
    p = (1 + as_large) / (RESAMPLES + 1)
    student = paired_p(differences, grain)
    if not as_large and student is not None:
        p = min(p, student)
    return centre - quantile * error, centre + quantile * error, p


def _studentised(centred: Any, grain: float) -> Any:
    """mean / standard error of RESAMPLES resamples; a resample without scatter is ±infinity, or 0."""
    import numpy as np

    n = len(centred)
    places = _drawn(n, _places)
    means, spreads = np.empty(RESAMPLES), np.empty(RESAMPLES)
    rows = max(1, _IN_CACHE // n)
    for start in range(0, RESAMPLES, rows):
        part = slice(start, start + rows)
        draws = centred[places[part]]
        means[part] = draws.mean(axis=1)
        spread = draws.std(axis=1, ddof=1)
        equal = np.flatnonzero(draws[:, 0] == draws[:, -1])
        spread[equal[np.ptp(draws[equal], axis=1) == 0]] = 0.0  # not the rounding of equal draws
        spreads[part] = spread
    errors = np.maximum(spreads, grain / math.sqrt(6)) / math.sqrt(n)
    flat = errors == 0
    safe = np.where(flat, 1.0, errors)
    return np.where(flat, np.where(means == 0, 0.0, np.copysign(np.inf, means)), means / safe)


def _drawn(n: int, draw: Callable[[int], Any]) -> Any:
    """What this function draws for n pairs, (RESAMPLES, n): always the same, and kept for the next comparison."""
    return _kept(n, draw) if n * RESAMPLES <= _LARGEST_KEPT else draw(n)


@functools.lru_cache(maxsize=2)
def _kept(n: int, draw: Callable[[int], Any]) -> Any:
    drawn = draw(n)
    drawn.flags.writeable = False
    return drawn


def _signs(n: int) -> Any:
    import numpy as np

    return np.random.default_rng(_SEED).choice([-1.0, 1.0], size=(RESAMPLES, n))


def _places(n: int) -> Any:
    import numpy as np

    return np.random.default_rng(_SEED).integers(0, n, size=(RESAMPLES, n))
