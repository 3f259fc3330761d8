"""What the seeds say without a normal distribution: sign flips as a check, a bootstrap where there are many.

Random draws come from a private generator with a fixed seed: the same folder gives the same numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from bnbench.analysis.intervals import ALPHA, std

#: From so many pairs on all sign patterns together can say 5 %: 2 / 2^6 = 0.03.
MIN_SIGN_FLIP = 6
#: Up to so many pairs all 2^n sign patterns are tried; beyond, RESAMPLES drawn ones.
MAX_EXACT = 20
#: From so many pairs on the bootstrap gives the interval and the verdict.
MIN_BOOTSTRAP = 20
RESAMPLES = 9_999

_SEED = 20_250_101


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the sign-flip test (Fisher 1935): the share of sign patterns with as large a |sum|.

    Exact for any symmetric distribution of the differences. None for fewer than 6 pairs, where no
    pattern could reach 5 %. Up to 20 pairs over all 2^n patterns, beyond over 9,999 drawn ones and
    the observed one.
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
    signs = np.random.default_rng(_SEED).choice([-1.0, 1.0], size=(RESAMPLES, n))
    return float(1 + (np.abs(signs @ values) >= limit).sum()) / (RESAMPLES + 1)


def bootstrap_t(differences: Sequence[float]) -> tuple[float, float, float] | None:
    """Studentised bootstrap of the mean: 95 % interval (low, high) and the p value that belongs to it.

    The symmetric bootstrap-t (Hall 1988; Efron and Tibshirani 1993, chapter 12): mean ± q · se, where
    q is the 95 % quantile of |mean* - mean| / se* over resamples, in the place of Student's t. The
    equal-tailed one keeps less than 95 % where differences have heavy tails, as those of two equal
    variants may (docs/statistics.md has the numbers). p is at most 5 % where the interval excludes 0.
    None where resamples without scatter leave the quantile undefined.
    """
    import numpy as np

    n, mean = len(differences), statistics.fmean(differences)
    error = std(differences) / math.sqrt(n)
    if not error:
        return None
    ratios = np.sort(np.abs(_studentised(np.asarray(differences) - mean)))
    quantile = float(ratios[round((RESAMPLES + 1) * (1 - ALPHA)) - 1])
    if not math.isfinite(quantile):
        return None
    as_large = RESAMPLES - int(np.searchsorted(ratios, abs(mean) / error, side="left"))
    return mean - quantile * error, mean + quantile * error, (1 + as_large) / (RESAMPLES + 1)


def _studentised(centred: Any) -> Any:
    """mean / standard error of RESAMPLES resamples; a resample without scatter is ±infinity, or 0."""
    import numpy as np

    n = len(centred)
    draws = centred[np.random.default_rng(_SEED).integers(0, n, size=(RESAMPLES, n))]
    means = draws.mean(axis=1)
    errors = draws.std(axis=1, ddof=1) / math.sqrt(n)
    flat = np.ptp(draws, axis=1) == 0
    safe = np.where(flat, 1.0, errors)
    return np.where(flat, np.where(means == 0, 0.0, np.copysign(np.inf, means)), means / safe)
