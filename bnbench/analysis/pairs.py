"""The numbers of two variants, paired by seed: which pairs there are, which are lost, and how coarse they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from bnbench.analysis.methods.intervals import mean, std
from bnbench.base.metrics import GAPS, Metric, metric_of, parted, value_of
from bnbench.results import Cell
from bnbench.results.checks import LARGEST
from bnbench.study.records import RunRecord

Phase = Literal["final", "best"]
PHASES: tuple[Phase, ...] = ("final", "best")

#: A difference smaller than this share of the numbers is rounding (they are float32), not an effect.
ROUNDING = 1e-6
#: So many equal differences are a result by themselves: the sign-flip test gives them p = 2 / 2^6.
ENOUGH_EQUAL = 6
#: Why a pair has no difference, where no outcome of its runs says so: the metric has no value on this data.
WITHOUT_NUMBER = "without_a_number"


@dataclass(frozen=True)
class Spread:
    """A number over seeds. std: with n-1, None where n < 2; mean: None where n is 0.

    values: the finite ones, in the order of the seeds. num_nonfinite: runs whose number is NaN or
    infinite: not in the mean, but counted.
    """

    mean: float | None
    std: float | None
    n: int
    values: tuple[float, ...] = ()
    num_nonfinite: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of some numbers, finite or not."""
        values = list(values)
        finite = tuple(value for value in values if math.isfinite(value))
        return cls(
            mean=mean(finite) if finite else None,
            std=std(finite) if len(finite) > 1 else None,
            n=len(finite),
            values=finite,
            num_nonfinite=len(values) - len(finite),
        )


@dataclass(frozen=True)
class Pairs:
    """One metric of two variants, over the seeds where both have a finite number.

    first, second: by seed, the variant's and the baseline's. planned: seeds that both should have.
    lost: pairs whose runs ended and have no number on one side or both, by the reason: "crashed",
    "not_finite" or "without_a_number"; a run that is missing is not among them. grain: see `grain_of`.
    """

    seeds: tuple[int, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    planned: int
    lost: Mapping[str, int] = field(default_factory=dict)
    grain: float | None = None

    @property
    def differences(self) -> list[float]:
        """The variant's number minus the baseline's, seed by seed."""
        return [first - second for first, second in zip(self.first, self.second, strict=True)]

    @property
    def rounding(self) -> float:
        """Differences up to this are none: float32 can't tell."""
        return ROUNDING * max(map(abs, (*self.first, *self.second)), default=0.0)

    @property
    def say_nothing_of_scatter(self) -> bool:
        """Whether all differences are equal, are few, and nothing bounds how far the next one may lie off.

        A share of N samples is bounded by its rounding (see `intervals.scatter`), a loss by nothing.
        """
        values = self.differences
        if self.grain is not None or not values or len(values) >= ENOUGH_EQUAL:
            return False
        return max(values) - min(values) <= 2 * self.rounding

    @property
    def wins(self) -> float:
        """Seeds where the first number is the larger; a tie (to the rounding of these two) is half a win."""
        return sum(
            0.5 if abs(first - second) <= ROUNDING * max(abs(first), abs(second)) else float(first > second)
            for first, second in zip(self.first, self.second, strict=True)
        )


def pair_up(variant: Cell, baseline: Cell, metric: str, at: Phase) -> Pairs:
    """The pairs of two cells in one metric."""
    variant_runs = {record.seed: record for record in variant.records}
    baseline_runs = {record.seed: record for record in baseline.records}
    planned = [seed for seed in variant.seeds if seed in baseline.seeds]
    ended = [
        (variant_runs[seed], baseline_runs[seed])
        for seed in planned
        if seed in variant_runs and seed in baseline_runs
    ]
    numbers = {first.seed: (number(first, metric, at), number(second, metric, at)) for first, second in ended}
    whole = {seed: pair for seed, pair in numbers.items() if all(map(math.isfinite, pair))}
    lost = Counter(_reason(pair) for pair in ended if pair[0].seed not in whole)
    return Pairs(
        seeds=tuple(whole),
        first=tuple(first for first, _ in whole.values()),
        second=tuple(second for _, second in whole.values()),
        planned=len(planned),
        lost=dict(lost),
        grain=grain_of((record for pair in ended for record in pair), metric),
    )


def number(record: RunRecord, metric: str, at: Phase) -> float:
    """One metric of one run; NaN where there is none, as in a crashed run, or it is too large."""
    value = value_of(record.final if at == "final" else record.best, metric)
    return value if abs(value) <= LARGEST else math.nan


def grain_of(records: Iterable[RunRecord], column: str) -> float | None:
    """The largest change that the answer on one sample can make to the metric, as these runs measured it.

    A gap is the difference of two such numbers: √(a² + b²), so that the rounding of both is in it. None where there
    is no bound (a loss), or no run says how many samples there were.
    """
    metric, part = metric_of(column), parted(column)[0]
    known: dict[tuple[object, ...], list[float | None]] = {}  # most runs have the same samples
    for record in records:
        counts = tuple((split, tuple(each)) for split, each in record.class_counts.items())
        key = (counts, tuple(record.num_samples.items()), record.class_names)
        if key not in known:
            known[key] = [_grain(record, metric, one) for one in GAPS.get(part, (part,))]
    grains = list(known.values())
    return max((math.hypot(*each) for each in grains if None not in each), default=None)  # type: ignore[arg-type]


def _grain(record: RunRecord, metric: Metric, split: str) -> float | None:
    counts = record.class_counts.get("probe" if split == "train" else split)
    if counts:
        return metric.granularity(counts, record.class_names)
    samples = record.num_samples.get(split)
    # without the classes' sizes, only a share of all samples is known to be so fine
    known = samples and metric.name == "accuracy" and split != "train"
    return metric.granularity((samples,)) if known and samples else None


def _reason(pair: tuple[RunRecord, RunRecord]) -> str:
    outcomes = {record.outcome for record in pair}
    return next((reason for reason in ("crashed", "not_finite") if reason in outcomes), WITHOUT_NUMBER)
