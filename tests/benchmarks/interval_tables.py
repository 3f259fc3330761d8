"""Simulated studies, one at a time through the package: intervals of a difference, times to a target, shares.

An interval that misses the truth has failed, and so has a test that finds something where nothing is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from verdict_tables import header, row

from bnbench.analysis.methods.intervals import paired_interval
from bnbench.analysis.methods.resampling import MIN_BOOTSTRAP, bootstrap_t, sign_flip_p
from bnbench.analysis.paired import compare
from bnbench.analysis.rates import fisher_p, mcnemar_p, wilson
from bnbench.analysis.speed import restricted_difference, speed_up
from bnbench.results import Cell
from bnbench.study.records import RunRecord

METRIC = "test_accuracy"
SEEDS = (3, 5, 10, 20)
#: How much of a run's deviation the two sides of a pair share.
RHO = 0.3
#: Of the studies of the other tables: these go one by one.
SHARE = 10

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(random: np.random.Generator, n: int) -> np.ndarray:
    """Two sides of n pairs, (2, n), correlated by RHO."""
    shared = random.normal(size=n)
    return math.sqrt(RHO) * shared + math.sqrt(1 - RHO) * random.normal(size=(2, n))


def lognormal(random: np.random.Generator, n: int) -> np.ndarray:
    """Skewed: exp of the normal pairs."""
    return np.exp(normal(random, n))


def bimodal(random: np.random.Generator, n: int) -> np.ndarray:
    """Trains with probability 0.8 (0.95 ± 0.01), else stays near chance (0.10 ± 0.01)."""
    works = random.random(size=(2, n)) < 0.8
    return np.where(works, 0.95, 0.10) + 0.01 * random.normal(size=(2, n))


def one_sided(random: np.random.Generator, n: int) -> np.ndarray:
    """Skewed differences of mean 0: a lognormal less its mean against a constant. Never A against A."""
    return np.stack([random.lognormal(0, 1, n) - math.exp(0.5), np.zeros(n)])


DRAWS: dict[str, Draw] = {
    "normal": normal,
    "lognormal": lognormal,
    "bimodal": bimodal,
    "one-sided": one_sided,
}


class Tally:
    """Counts of "happened" out of "could have"."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, name: str, happened: bool) -> None:
        self.counts[name][0] += happened
        self.counts[name][1] += 1

    def text(self, name: str) -> str:
        k, n = self.counts[name]
        return f"{100 * k / n:.1f}" if n else "–"


def cell(name: str, values: np.ndarray, metric: str = METRIC, samples: int | None = None) -> Cell:
    """A cell whose runs ended at these values. samples: in the test set, where the metric is a share of them."""
    seeds = tuple(range(len(values)))
    runs = tuple(
        RunRecord(
            name, {}, seed, name, name, "finished",
            final={metric: float(value), "val_loss": float(31 * sum(map(ord, name)) + seed)},  # no two variants alike
            num_samples={"test": samples} if samples else {},
        )
        for seed, value in zip(seeds, values, strict=True)
    )  # fmt: skip
    return Cell(name, {}, name, seeds, runs)


def covers(interval: tuple[float | None, float | None], truth: float) -> bool:
    low, high = interval
    return low is not None and high is not None and low <= truth <= high


def differences(draw: Draw, n: int, studies: int, random: np.random.Generator) -> Tally:
    """Verdicts and intervals of the final difference."""
    tally = Tally()
    for _ in range(studies):
        ours, theirs = draw(random, n)
        found = compare(cell("a", ours), cell("b", theirs), METRIC, "final")
        deltas = [value for _, value in found.values]
        tally.add("false verdicts", found.verdict in ("better", "worse"))
        tally.add("shown", covers((found.ci_low, found.ci_high), 0))
        tally.add("t", covers(paired_interval(deltas), 0))
        tally.add("Welch", covers((found.welch_low, found.welch_high), 0))
        bootstrap = bootstrap_t(deltas) if n >= MIN_BOOTSTRAP else None
        if bootstrap:
            tally.add("bootstrap", covers(bootstrap[:2], 0))
        flip = sign_flip_p(deltas)
        if flip is not None:
            tally.add("sign flip", flip <= 0.05)
    return tally


def times(random: np.random.Generator, n: int, reach: float) -> np.ndarray:
    """Steps to a target on a grid of 10, lognormal; with probability 1 - reach never (infinite)."""
    steps = np.ceil(20 * np.exp(0.4 * normal(random, n))) * 10
    return np.where(random.random(size=(2, n)) < reach, steps, np.inf)


def speeds(n: int, studies: int, random: np.random.Generator, reach: float, budget: float = 600) -> Tally:
    """Intervals of the restricted mean difference and of the speed-up; shares that trained."""
    tally = Tally()
    for _ in range(studies):
        ours, theirs = times(random, n, reach)
        ours, theirs = (np.where(side > budget, np.inf, side) for side in (ours, theirs))
        saved = paired_interval(restricted_difference(ours.tolist(), theirs.tolist(), budget))
        tally.add("restricted mean", covers(saved, 0))
        both = np.isfinite(ours) & np.isfinite(theirs)
        if both.sum() >= 2:
            _, low, high = speed_up(ours[both].tolist(), theirs[both].tolist())
            tally.add("speed-up", covers((low, high), 1))
        trained = random.random(size=(2, n)) < reach
        tally.add("Wilson", covers(wilson(int(trained[0].sum()), n), reach))
        first, second = trained
        tally.add("McNemar", mcnemar_p(int((first & ~second).sum()), int((second & ~first).sum())) <= 0.05)
        tally.add("Fisher", fisher_p(int(first.sum()), n, int(second.sum()), n) <= 0.05)
    return tally


def intervals(studies: int, random: np.random.Generator) -> Iterator[str]:
    """Every interval of one comparison (nominal 95), its false verdicts and the sign-flip check (at most 5)."""
    columns = ["false verdicts", "shown", "t", "Welch", "bootstrap", "sign flip"]
    shown = ["false verdicts", "interval shown", "paired t", "Welch", "bootstrap-t", "flip p ≤ 5%"]
    yield from header("outcomes", "seeds", *shown)
    for name, draw in DRAWS.items():
        for n in SEEDS:
            tally = differences(draw, n, max(2, studies // SHARE), random)
            yield row(name, n, *map(tally.text, columns))


def times_and_shares(studies: int, random: np.random.Generator) -> Iterator[str]:
    """Time to a target and shares that trained: intervals (nominal 95) and tests (at most 5)."""
    names = ("restricted mean", "speed-up", "Wilson", "Fisher", "McNemar")
    tests = ("Fisher p ≤ 5%", "McNemar p ≤ 5%")
    yield from header("reach the target", "seeds", "restricted mean difference", "speed-up", "Wilson", *tests)
    for reach in (1.0, 0.8, 0.5):
        for n in SEEDS:
            tally = speeds(n, max(2, studies // SHARE), random, reach)
            yield row(f"{reach:.0%}", n, *map(tally.text, names))
