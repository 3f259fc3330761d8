"""How often a variant trains at all: shares of seeds, for outcomes that are all or nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bnbench.analysis.methods.intervals import CONFIDENCE, holm
from bnbench.results import Cell
from bnbench.study.labels import Labelled


@dataclass(frozen=True)
class TrainedRate(Labelled):
    """The share of seeds with which a variant trained: its runs finished (see `study.records.Outcome`).

    trained of n: runs that ended on their own account; one that crashed or is missing says nothing
    here. low, high: 95 % Wilson interval. p: Fisher's exact test against the baseline, two-sided; p_holm:
    after Holm's correction over the variants. The seeds are paired, but whether another network trains with
    a seed is as good as independent of it, and McNemar's test, which uses the pairs, could not
    decide below 6 seeds. only_variant, only_baseline: seeds with which only that one trained, and
    paired_p: McNemar's exact p of them; None where no seed has both. against: the label of
    the baseline's cell, "" for the baseline itself.
    """

    trained: int
    n: int
    low: float | None
    high: float | None
    p: float | None = None
    p_holm: float | None = None
    only_variant: int | None = None
    only_baseline: int | None = None
    paired_p: float | None = None
    against: str = ""


def trained_rates(pairs: Sequence[tuple[Cell, Cell | None]]) -> tuple[TrainedRate, ...]:
    """The rate of every cell, beside its baseline's where it has one that is not itself."""
    rates = list(_rates(pairs))
    tested = [index for index, rate in enumerate(rates) if rate.p is not None]
    adjusted = holm([rates[index].p or 0.0 for index in tested])
    for index, p in zip(tested, adjusted, strict=True):
        rates[index] = replace(rates[index], p_holm=p)
    return tuple(rates)


def _rates(pairs: Sequence[tuple[Cell, Cell | None]]) -> Iterator[TrainedRate]:
    for cell, baseline in pairs:
        trained = _trained(cell)
        low, high = wilson(sum(trained.values()), len(trained))
        rate = TrainedRate(cell.variant, cell.setting, sum(trained.values()), len(trained), low, high)
        baseline_trained = _trained(baseline) if baseline and baseline is not cell else {}
        if baseline and baseline is not cell:
            rate = replace(rate, against=baseline.label)
        yield _tested(rate, trained, baseline_trained) if trained and baseline_trained else rate


def _trained(cell: Cell) -> dict[int, bool]:
    return {run.seed: run.trained for run in cell.records if run.trained is not None}


def _tested(
    rate: TrainedRate, trained: Mapping[int, bool], baseline_trained: Mapping[int, bool]
) -> TrainedRate:
    p = fisher_p(sum(trained.values()), len(trained), sum(baseline_trained.values()), len(baseline_trained))
    both = [seed for seed in trained if seed in baseline_trained]
    if not both:
        return replace(rate, p=p)
    only_variant = sum(trained[seed] and not baseline_trained[seed] for seed in both)
    only_baseline = sum(baseline_trained[seed] and not trained[seed] for seed in both)
    paired = mcnemar_p(only_variant, only_baseline)
    return replace(rate, p=p, only_variant=only_variant, only_baseline=only_baseline, paired_p=paired)


def wilson(k: float, n: int, confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """Interval of a share, k of n (Wilson 1927): it stays in [0, 1], and has a width at 0 and n too.

    k: a tie may count as half.

    Examples
    --------
    81 of 263: 0.2553 to 0.3662 (Newcombe 1998, Statistics in Medicine 17, table I).

    >>> [round(bound, 4) for bound in wilson(81, 263)]
    [0.2553, 0.3662]
    """
    if not n:
        return None, None
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, widened = k / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / widened
    half = z / widened * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if k == 0 else middle - half), (1.0 if k == n else middle + half)


def clopper_pearson(k: int, n: int, alpha: float = 1 - CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a share, k of n: it never covers less than 1 - alpha (Clopper and Pearson 1934).

    Examples
    --------
    81 of 263: 0.2527 to 0.3676 (Newcombe 1998, Statistics in Medicine 17, table I).

    >>> [round(bound, 4) for bound in clopper_pearson(81, 263)]
    [0.2527, 0.3676]
    """
    from scipy import special

    low = float(special.betaincinv(k, n - k + 1, alpha / 2)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1 - alpha / 2)) if k < n else 1.0
    return low, high


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact McNemar test of paired outcomes: two-sided binomial p of the seeds where the two differ."""
    n = only_first + only_second
    tail = sum(math.comb(n, i) for i in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**n))


def fisher_p(k_first: int, n_first: int, k_second: int, n_second: int) -> float:
    """Fisher's exact test of two unpaired shares, two-sided: all tables no more likely than this one.

    Examples
    --------
    The lady who tastes tea, 3 of 4 cups right: p 34/70 (Fisher 1935, The Design of Experiments, chapter 2).

    >>> round(fisher_p(3, 4, 1, 4) * 70)
    34
    """
    successes = k_first + k_second
    total = math.comb(n_first + n_second, successes)
    weights = [
        math.comb(n_first, k) * math.comb(n_second, successes - k)
        for k in range(max(0, successes - n_second), min(n_first, successes) + 1)
    ]
    seen = math.comb(n_first, k_first) * math.comb(n_second, k_second)
    return sum(weight for weight in weights if weight <= seen) / total
