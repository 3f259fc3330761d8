"""The rules of the comparison on many simulated studies at once, in NumPy.

The package judges one study at a time; these judge arrays of them. `false_verdicts.py` holds both against each
other on a sample before it prints anything. Arrays end with the axis of the seeds: (studies, comparisons, seeds).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bnbench.analysis.methods import resampling
from bnbench.analysis.methods.intervals import ALPHA
from bnbench.analysis.methods.sequential import MIN_FUTILE, weights

Array = NDArray[np.float64]
#: How much of a run's deviation all variants of a seed share.
RHO = 0.3


@dataclass(frozen=True)
class Outcomes:
    """Results of runs without a true difference. draw: (studies, variants, seeds), the first variant the baseline.

    grain: one sample's share, where the result is a count; sd: of a run, the unit of an effect. one_sided: the
    baseline does not scatter, so that the differences keep the skew of the variants.
    """

    name: str
    draw: Callable[[np.random.Generator, tuple[int, int, int]], Array]
    grain: float = 0.0
    sd: float = 1.0
    one_sided: bool = False


def correlated(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Standard normal; the variants of a seed share RHO of their variance."""
    studies, _, seeds = shape
    shared = random.standard_normal((studies, 1, seeds))
    return math.sqrt(RHO) * shared + math.sqrt(1 - RHO) * random.standard_normal(shape)


def _t3(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    return correlated(random, shape) / np.sqrt(random.chisquare(3, shape) / 3)


def _bimodal(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Trains with probability 0.8 (0.95 ± 0.01), else stays near chance (0.10 ± 0.01)."""
    works = random.random(shape) < 0.8
    return np.where(works, 0.95, 0.10) + 0.01 * random.standard_normal(shape)


def _counts(samples: int, centre: float, sd: float) -> Callable[..., Array]:
    def draw(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
        share = np.minimum(centre + sd * correlated(random, shape), 1)
        return np.round(samples * share) / samples

    return draw


def _one_sided(scale: float) -> Callable[..., Array]:
    """Rare large losses against a baseline that never varies: a lognormal less its mean."""

    def draw(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
        values = random.lognormal(0, scale, shape) - math.exp(scale**2 / 2)
        values[:, 0] = 0
        return values

    return draw


OUTCOMES = {
    found.name: found
    for found in (
        Outcomes("normal", correlated),
        Outcomes("t3", _t3, sd=math.sqrt(3)),
        Outcomes("lognormal", lambda random, shape: np.exp(correlated(random, shape)), sd=2.16),
        Outcomes("bimodal", _bimodal, sd=0.34),
        Outcomes("counts of 360, sd 0.3 pp", _counts(360, 0.97, 0.003), 1 / 360, 0.003),
        Outcomes("counts of 360, ceiling", _counts(360, 0.998, 0.003), 1 / 360, 0.002),
        Outcomes("counts of 360, sd 1 pp", _counts(360, 0.95, 0.01), 1 / 360, 0.01),
        Outcomes("counts of 10,000, sd 0.2 pp", _counts(10_000, 0.95, 0.002), 1e-4, 0.002),
        Outcomes("one-sided skew 0.5", _one_sided(0.5), sd=0.604, one_sided=True),
        Outcomes("one-sided skew 1", _one_sided(1.0), sd=2.16, one_sided=True),
    )
}


def differences(outcomes: Outcomes, random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Of `shape[1]` variants from one baseline, without a true difference."""
    studies, variants, seeds = shape
    runs = outcomes.draw(random, (studies, variants + 1, seeds))
    return runs[:, 1:] - runs[:, :1]


def moments(values: Array, grain: float = 0.0) -> tuple[Array, Array]:
    """Mean and scatter over the seeds, the scatter at least that of the rounding."""
    return values.mean(-1), np.maximum(values.std(-1, ddof=1), grain / math.sqrt(6))


def t_test(values: Array, grain: float = 0.0) -> Array:
    """Two-sided p."""
    mean, scatter = moments(values, grain)
    return 2 * _tail(np.abs(mean), scatter, values.shape[-1])


def equivalence(values: Array, margin: float, grain: float = 0.0) -> Array:
    """p of the two one-sided tests."""
    mean, scatter = moments(values, grain)
    return _tail(margin - np.abs(mean), scatter, values.shape[-1])


def _tail(distance: Array, scatter: Array, n: int) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = distance / scatter * math.sqrt(n)
    found: Array = np.where(
        scatter > 0, special.stdtr(n - 1, -np.nan_to_num(t)), np.where(distance > 0, 0.0, 0.5)
    )
    return found


def holm(p_values: Array) -> Array:
    """Adjusted, over the last axis."""
    count = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1, kind="stable")
    steps = np.take_along_axis(p_values, order, -1) * np.arange(count, 0, -1)
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.minimum(1, np.maximum.accumulate(steps, -1)), -1)
    return adjusted


@dataclass(frozen=True)
class Looked:
    """What looks say: decided 0 (not), 1 or -1 (a difference and its sign), 2 (the same), and the seeds used."""

    decided: NDArray[np.int64]
    seeds: NDArray[np.int64]


def look_by_look(
    values: Array,
    looks: Sequence[int],
    grain: float = 0.0,
    margin: float | None = None,
    *,
    futility: bool = True,
) -> Looked:
    """`seeds: auto` over (studies, comparisons, seeds): each study a family."""
    p, margin_p = np.ones(values.shape[:-1]), np.ones(values.shape[:-1])
    sign, decided = np.ones(p.shape, int), np.zeros(p.shape, int)
    seeds, active = np.zeros(p.shape, int), np.ones(p.shape, bool)
    differs_now, same_now = np.zeros(p.shape, bool), np.zeros(p.shape, bool)
    for size, share in zip(looks, weights(looks), strict=True):
        here = values[..., :size]
        now = t_test(here, grain) / share
        smaller = active & (now < p)
        direction = np.sign(here.mean(-1)).astype(int)
        p, sign = np.where(smaller, now, p), np.where(smaller, direction, sign)
        differs_now = np.where(active, (now <= ALPHA) & (direction == sign), differs_now)
        if margin is not None:
            now = equivalence(here, margin, grain) / share
            margin_p = np.where(active, np.minimum(margin_p, now), margin_p)
            same_now = np.where(active, now <= ALPHA, same_now)
        seeds = np.where(active, size, seeds)
        given_up = active & futility & hopeless(here, looks, grain, margin)
        same, different = (holm(margin_p) <= ALPHA) & same_now, (holm(p) <= ALPHA) & differs_now
        decided = np.where(decided == 0, np.where(same, 2, np.where(different, sign, 0)), decided)
        active &= (decided == 0) & ~given_up
    return Looked(decided, seeds)


def hopeless(
    values: Array, looks: Sequence[int], grain: float = 0.0, margin: float | None = None
) -> NDArray[np.bool_]:
    """`is_futile` over arrays."""
    n, most, last = values.shape[-1], looks[-1], weights(looks)[-1]
    if not MIN_FUTILE <= n < most:
        return np.zeros(values.shape[:-1], bool)
    mean, scatter = moments(values, grain)
    error, unit = scatter / math.sqrt(n), scatter / math.sqrt(most)
    given_up = (np.abs(mean) + error) / unit < special.stdtrit(most - 1, 1 - ALPHA * last / 2)
    if margin is not None:
        seen = np.maximum(np.abs(mean) - error, 0)
        given_up &= (margin - seen) / unit < special.stdtrit(most - 1, 1 - ALPHA * last)
    found: NDArray[np.bool_] = given_up & (scatter > 0)
    return found


def bootstrap(values: Array, grain: float = 0.0) -> Array:
    """Two-sided p of `bootstrap_t`, by the same resamples: as counts of each seed, so that one product does all."""
    n = values.shape[-1]
    draws = np.random.default_rng(resampling._SEED).integers(0, n, size=(resampling.RESAMPLES, n))
    counts = np.zeros((resampling.RESAMPLES, n))
    np.add.at(counts, (np.arange(resampling.RESAMPLES)[:, None], draws), 1)
    flat = values.reshape(-1, n)
    p = np.concatenate(
        [_bootstrap(part, counts, grain) for part in np.array_split(flat, max(1, len(flat) // 500))]
    )
    return p.reshape(values.shape[:-1])


def _bootstrap(values: Array, counts: Array, grain: float) -> Array:
    n = values.shape[-1]
    mean, scatter = moments(values, grain)
    centred = values - mean[:, None]
    means = centred @ counts.T / n
    squares = (centred**2) @ counts.T
    spread = np.sqrt(np.maximum(squares - n * means**2, 0) / (n - 1))
    errors = np.maximum(
        np.where(spread < 1e-9 * scatter[:, None], 0, spread), grain / math.sqrt(6)
    ) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(errors > 0, np.abs(means) / errors, np.where(means == 0, 0.0, np.inf))
        seen = np.abs(mean) / (scatter / math.sqrt(n))
    as_large = (ratios >= seen[:, None] * (1 - 1e-12)).sum(1)
    student = t_test(values, grain)
    p = (1 + as_large) / (resampling.RESAMPLES + 1)
    p = np.where(as_large == 0, np.minimum(p, student), p)
    own = values.std(-1, ddof=1)
    found: Array = np.where((own > 0) & (own >= scatter), p, student)
    return found


def p_values(values: Array, grain: float = 0.0) -> Array:
    """What the package tests with: Student's t, from 20 seeds on the bootstrap."""
    return bootstrap(values, grain) if values.shape[-1] >= resampling.MIN_BOOTSTRAP else t_test(values, grain)
