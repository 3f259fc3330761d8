"""The indices of the runs' inside over seeds: spread, noise floor, paired comparison with the baseline.

A ratio is compared on the scale of its logarithm: geometric means, and Student's t on the paired logarithms, as for
times to a target. The intervals are for one number alone. All comparisons of all indices with the baseline are one
family for Holm's correction, and only what holds after it is said to be lower or higher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS, holm, mean, paired_interval, paired_p, std
from bnbench.analysis.methods.sequential import weight_of
from bnbench.analysis.pairs import ROUNDING
from bnbench.analysis.settings import baselines_of
from bnbench.base.indices import Scale, index_facts, is_floor
from bnbench.results import Cell
from bnbench.study.labels import Labelled
from bnbench.study.records import MISSING, RunRecord

#: Of a run that ended and has no finite number of the index.
WITHOUT_NUMBER = "without_a_number"
#: Indices that say how well another was measured, and not what the network is like: shown, and not compared.
_OF_THE_METHOD = "converged_"


@dataclass(frozen=True)
class IndexSpread(Labelled):
    """One index of one variant over its seeds.

    mean: of the finite numbers, on a ratio scale the geometric one; low, high: its 95 % t interval, None with fewer
    than three seeds or without scatter. values: by seed. absent: the reason why a planned run has no number, by seed.
    over_floor: how far the index is above its noise floor, paired by seed: a factor on a ratio scale, else a
    difference that is positive where the index is on the side that its facts call more. above_floor: whether the
    whole interval is; None where no floor was measured, or too few seeds were.
    """

    index: str
    scale: Scale
    mean: float | None
    low: float | None
    high: float | None
    planned: int
    values: tuple[tuple[int, float], ...] = ()
    absent: Mapping[int, str] = field(default_factory=dict)
    floor: float | None = None
    over_floor: float | None = None
    over_floor_low: float | None = None
    over_floor_high: float | None = None
    above_floor: bool | None = None

    @property
    def n(self) -> int:
        """Seeds with a number."""
        return len(self.values)


@dataclass(frozen=True)
class IndexContrast(Labelled):
    """One index of a variant against the baseline's, paired by seed.

    effect: the variant's number over the baseline's on a ratio scale (geometric mean of the paired ratios), else the
    mean paired difference. low, high: the 95 % interval of this number alone, None with fewer than three pairs or
    without scatter. p: of the paired t test against 1 or 0; p_holm: after Holm's correction over the study's family
    of comparisons. lost: seeds with a pair that has no number.
    shown: lower or higher where p_holm is at most 5 % and no pair is lost; "" where that is not shown.
    """

    baseline: str
    index: str
    scale: Scale
    effect: float | None
    low: float | None
    high: float | None
    n: int
    planned: int
    values: tuple[tuple[int, float], ...] = ()
    lost: tuple[int, ...] = ()
    p: float | None = None
    p_holm: float | None = None
    family: int = 0
    shown: str = ""


def index_names(cells: Iterable[Cell]) -> list[str]:
    """Every index that any run has, without the noise floors; the known ones in their order."""
    runs = [run for cell in cells for run in cell.records]
    return [name for name in dict.fromkeys(name for run in runs for name in run.inside) if not is_floor(name)]


def index_spreads(cells: Sequence[Cell], looks: Sequence[int] = ()) -> tuple[IndexSpread, ...]:
    """Every index of every cell."""
    scales = {name: _scale(name, cells) for name in index_names(cells)}
    return tuple(_spread(cell, name, scale, looks) for name, scale in scales.items() for cell in cells)


def index_contrasts(
    cells: Sequence[Cell], baseline: str, checks: Iterable[str] = (), looks: Sequence[int] = ()
) -> tuple[IndexContrast, ...]:
    """Every index of every variant against the baseline at the same setting; those of checks are left out."""
    checks = {*checks}
    pairs = [
        (cell, base)
        for cell, base in zip(cells, baselines_of(cells, baseline), strict=True)
        if base and cell.variant not in {baseline, *checks}
    ]
    contrasts = [
        _contrast(cell, base, name, _scale(name, cells), looks)
        for name in index_names(cells)
        if not name.startswith(_OF_THE_METHOD)
        for cell, base in pairs
    ]
    return tuple(_corrected(contrasts, looks))


def _scale(name: str, cells: Iterable[Cell]) -> Scale:
    """As the index's facts say; a ratio only where every number of the study is positive."""
    scale = index_facts(name).scale
    numbers = (value for cell in cells for value in _numbers(cell, name).values())
    return "difference" if scale == "ratio" and any(value <= 0 for value in numbers) else scale


def _numbers(cell: Cell, name: str) -> dict[int, float]:
    """Seed by seed, the finite numbers."""
    found = {run.seed: run.inside.get(name, math.nan) for run in cell.records}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def _absent(cell: Cell, name: str) -> dict[int, str]:
    runs = {run.seed: run for run in cell.records}
    known = _numbers(cell, name)
    return {seed: _reason(runs.get(seed)) for seed in cell.seeds if seed not in known}


def _reason(run: RunRecord | None) -> str:
    if run is None:
        return MISSING
    return run.outcome if run.outcome in ("crashed", "not_finite") else WITHOUT_NUMBER


def _spread(cell: Cell, name: str, scale: Scale, looks: Sequence[int]) -> IndexSpread:
    numbers = _numbers(cell, name)
    log, _ = _scales(scale)
    centre, low, high = _estimate(
        [log(value) for value in numbers.values()], scale, looks, _rounding(scale, numbers.values())
    )
    spread = IndexSpread(
        variant=cell.variant,
        setting=cell.setting,
        index=name,
        scale=scale,
        mean=centre,
        low=low,
        high=high,
        planned=len(cell.seeds),
        values=tuple(numbers.items()),
        absent=_absent(cell, name),
    )
    return _against_floor(spread, _numbers(cell, index_facts(name).floor), looks)


def _against_floor(spread: IndexSpread, floors: Mapping[int, float], looks: Sequence[int]) -> IndexSpread:
    pairs = [(value, floors[seed]) for seed, value in spread.values if seed in floors]
    ratio = spread.scale == "ratio" and all(floor > 0 for _, floor in pairs)
    if not pairs or (spread.scale == "ratio" and not ratio):
        return replace(spread, floor=mean(list(floors.values())) if floors else None)
    log, back = _scales(spread.scale)
    sign = 1 if index_facts(spread.index).rises else -1
    over = [sign * (log(value) - log(floor)) for value, floor in pairs]
    numbers = [number for pair in pairs for number in pair]
    factor, low, high = _estimate(over, spread.scale, looks, _rounding(spread.scale, numbers))
    return replace(
        spread,
        floor=back(mean([log(floor) for _, floor in pairs])),
        over_floor=factor,
        over_floor_low=low,
        over_floor_high=high,
        above_floor=None if low is None else low > (1 if ratio else 0),
    )


def _contrast(cell: Cell, baseline: Cell, name: str, scale: Scale, looks: Sequence[int]) -> IndexContrast:
    first, second = _numbers(cell, name), _numbers(baseline, name)
    planned = [seed for seed in cell.seeds if seed in baseline.seeds]
    seeds = [seed for seed in planned if seed in first and seed in second]
    log, back = _scales(scale)
    changes = [log(first[seed]) - log(second[seed]) for seed in seeds]
    numbers = [side[seed] for side in (first, second) for seed in seeds]
    effect, low, high = _estimate(changes, scale, looks, _rounding(scale, numbers))
    return IndexContrast(
        variant=cell.variant,
        setting=cell.setting,
        baseline=baseline.variant,
        index=name,
        scale=scale,
        effect=effect,
        low=low,
        high=high,
        n=len(seeds),
        planned=len(planned),
        values=tuple((seed, back(change)) for seed, change in zip(seeds, changes, strict=True)),
        lost=tuple(seed for seed in planned if seed not in seeds),
        p=None if low is None else paired_p(changes),
    )


def _corrected(contrasts: Sequence[IndexContrast], looks: Sequence[int]) -> Iterator[IndexContrast]:
    """With Holm's p; a comparison that has no p of its own counts in the family all the same."""
    adjusted = holm([1.0 if contrast.p is None else contrast.p for contrast in contrasts])
    for contrast, p in zip(contrasts, adjusted, strict=True):
        known = contrast.p is not None and not contrast.lost
        nothing = 1 if contrast.scale == "ratio" else 0
        effect = contrast.effect or 0.0
        shown = (
            ("lower" if effect < nothing else "higher") if known and p <= _alpha(contrast.n, looks) else ""
        )
        yield replace(contrast, p_holm=None if contrast.p is None else p, family=len(contrasts), shown=shown)


def _scales(scale: Scale) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """To the scale on which means are taken, and back."""
    if scale == "ratio":
        return math.log, lambda value: math.exp(min(value, 700.0))
    return float, float


def _alpha(n: int, looks: Sequence[int]) -> float:
    """5 %; at a look of `seeds: auto`, its share."""
    return ALPHA * weight_of(n, looks)


def _rounding(scale: Scale, numbers: Iterable[float]) -> float:
    """A scatter up to this is none: the numbers are float32. On the scale of the logarithm it is a share already."""
    return ROUNDING if scale == "ratio" else ROUNDING * max(map(abs, numbers), default=0.0)


def _estimate(
    values: Sequence[float], scale: Scale, looks: Sequence[int], rounding: float
) -> tuple[float | None, float | None, float | None]:
    """Mean and interval of numbers on their scale, brought back from it.

    No interval from fewer than three seeds, or from seeds that are equal to the rounding.
    """
    if not values:
        return None, None, None
    _, back = _scales(scale)
    known = len(values) >= MIN_SEEDS and std(values) > rounding
    low, high = paired_interval(values, 1 - _alpha(len(values), looks)) if known else (None, None)
    return back(mean(values)), None if low is None else back(low), None if high is None else back(high)
