"""`seeds: auto`: where each variant of a study stops, as its stored runs say. The same runs give the same stops.

Every variant at every setting of the sweep is one comparison of a family, on the final primary metric.
A look counts once every run that it needs is there; what comes after the last such look is not used.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bnbench.analysis.difference import Difference, Verdict
from bnbench.analysis.methods.intervals import ALPHA, equivalence_p, paired_p, scatter
from bnbench.analysis.methods.sequential import (
    Seen,
    Stopped,
    Track,
    decide,
    is_futile,
    repeated_interval,
    weight_of,
    weights,
)
from bnbench.analysis.paired import compare
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.settings import baselines_of
from bnbench.analysis.twins import first_of_equals
from bnbench.base.metrics import metric_of
from bnbench.results import Cell, StudyResults
from bnbench.study.labels import Labelled


@dataclass(frozen=True)
class Stop(Labelled):
    """At how many of up to `most` seeds a variant stands. stopped: why it gets no more; "" while it does.

    "follows": the baseline, which goes on while any other does, and a variant outside the family.
    """

    seeds: int
    most: int
    stopped: Stopped | Literal["follows"]


@dataclass(frozen=True)
class Course:
    """What the looks of a study say so far.

    results: every cell cut to the seeds that were looked at. judged: the comparison of each member of the
    family at its last look, by its label. wanted: how many seeds the next look needs, by the cell's label; empty
    where nothing goes on. unused: runs that are there and in no look.
    """

    results: StudyResults
    judged: Mapping[str, Difference]
    stops: tuple[Stop, ...]
    wanted: Mapping[str, int]
    unused: int

    def at_its_look(self, difference: Difference) -> Difference:
        """The comparison with the p and the interval of its look; the judged one where that is of the family."""
        if (difference.metric, difference.at) == (self.results.primary, "final"):
            return self.judged.get(difference.label, difference)
        return repeated(difference, self.results.looks)

    @property
    def warnings(self) -> Iterator[str]:
        """Runs in the folder that the tables leave out."""
        if self.wanted:
            size = max(self.wanted.values())
            yield f"the look at {size} seeds is not complete: what is shown is the look before it, if any."
        elif self.unused:
            are = "run lies" if self.unused == 1 else "runs lie"
            yield f"{self.unused} {are} beyond the look at which the variant stopped: not used."


@dataclass
class _Member:
    """A comparison of the family, and how many seeds it has been looked at with."""

    cell: Cell
    baseline: Cell
    seeds: int = 0
    track: Track = field(default_factory=Track)
    twin: str | None = None
    family: int = 1


def first_seeds(cell: Cell, count: int) -> Cell:
    """The cell as if only the first `count` of its seeds were planned."""
    seeds = cell.seeds[:count]
    return replace(cell, seeds=seeds, records=tuple(run for run in cell.records if run.seed in seeds))


def follow(results: StudyResults) -> Course:
    """Look by look, as far as the runs go."""
    looks, shares = results.looks, weights(results.looks)
    members = list(_members(results))
    reached = dict.fromkeys((cell.label for cell in results.cells), 0)  # by cell: the seeds of its last look
    wanted: dict[str, int] = {}
    for size, share in zip(looks, shares, strict=True):
        active = [member for member in members if not member.track.stopped]
        cells = _going_on(active) if size > looks[0] else results.cells
        wanted = {cell.label: size for cell in cells}
        if not cells or any(len(first_seeds(cell, size).records) < size for cell in cells):
            break
        reached |= wanted
        wanted = {}
        for member in active:
            member.seeds = size
            member.track.take(_see(member, results), share)
        _decide(members, size)
    for member in members:
        if not member.track.stopped and member.seeds == looks[-1]:
            member.track.stopped = "last"
    return _course(results, members, reached, wanted)


def repeated(difference: Difference, looks: Sequence[int], family: int = 1) -> Difference:
    """A comparison at one of the looks, with the p and the intervals that hold at every look together.

    What rests on a single look goes: the sign-flip check, and what a fixed number of seeds would find.
    """
    if difference.n < 2 or difference.ci_low is None:
        return difference
    weight = weight_of(difference.n, looks)
    values = [value for _, value in difference.values]
    mean, spread = statistics.fmean(values), _scatter(difference)
    low, high = repeated_interval(mean, spread, difference.n, weight)
    inner_low, inner_high = repeated_interval(mean, spread, difference.n, weight, 2 * ALPHA)
    together = repeated_interval(mean, spread, difference.n, weight / family)
    p = paired_p(values, difference.grain or 0.0)
    return replace(
        difference,
        method="t",
        ci_low=low,
        ci_high=high,
        inner_low=inner_low,
        inner_high=inner_high,
        p=None if p is None else min(1.0, p / weight),
        family=family,
        family_low=together[0],
        family_high=together[1],
        sign_flip_p=None,
        detectable=None,
        detectable_low=None,
        detectable_high=None,
        seeds_for_margin=None,
    )


def spent_rates(rates: Sequence[TrainedRate], looks: Sequence[int]) -> tuple[TrainedRate, ...]:
    """The exact tests of training success with the share of the 5 % that the look of each has."""

    def spend(p: float | None, n: int) -> float | None:
        return None if p is None else min(1.0, p / weight_of(n, looks))

    return tuple(replace(r, p=spend(r.p, r.n), p_holm=spend(r.p_holm, r.n)) for r in rates)


def _members(results: StudyResults) -> Iterator[_Member]:
    baselines = baselines_of(results.cells, results.baseline)
    for cell, baseline in zip(results.cells, baselines, strict=True):
        if baseline and cell.variant != results.baseline and cell.variant not in results.checks:
            yield _Member(cell, baseline)


def _decide(members: Sequence[_Member], size: int) -> None:
    """At one look. Comparisons with the same results count once; the baseline's are a family apart."""
    cells = {cell.label: cell for member in members for cell in (member.baseline, member.cell)}
    first = first_of_equals([first_seeds(cell, size) for cell in cells.values()])
    names: dict[str, str] = {}
    for member in members:
        same_as, baseline_same_as = first[member.cell.label], first[member.baseline.label]
        if same_as == baseline_same_as:
            member.twin = member.baseline.label
            continue
        earlier = names.setdefault(f"{same_as}\n{baseline_same_as}", member.cell.label)
        member.twin = None if earlier == member.cell.label else earlier
    for repeats in (False, True):
        group = [member for member in members if (member.twin == member.baseline.label) == repeats]
        names_of = [member.twin or member.cell.label for member in group]
        family = decide([member.track for member in group], names_of)
        for member in group:
            member.family = family


def _going_on(active: Sequence[_Member]) -> list[Cell]:
    """The cells of these comparisons, each once."""
    cells = {cell.label: cell for member in active for cell in (member.cell, member.baseline)}
    return list(cells.values())


def _see(member: _Member, results: StudyResults) -> Seen:
    difference = _difference(member, results)
    if difference.n < difference.n_planned:
        return Seen(p=1.0, rises=False, lost=True)
    values, grain = [value for _, value in difference.values], difference.grain or 0.0
    mean = statistics.fmean(values)
    if difference.p is None:
        return Seen(p=1.0, rises=mean > 0)
    return Seen(
        p=paired_p(values, grain) or 0.0,
        rises=mean > 0,
        margin_p=None if difference.margin is None else equivalence_p(values, difference.margin, grain),
        futile=is_futile(mean, _scatter(difference), difference.n, results.looks, difference.margin),
    )


def _difference(member: _Member, results: StudyResults) -> Difference:
    variant, baseline = first_seeds(member.cell, member.seeds), first_seeds(member.baseline, member.seeds)
    return compare(variant, baseline, results.primary, "final", results.margin)


def _scatter(difference: Difference) -> float:
    return scatter([value for _, value in difference.values], difference.grain or 0.0)


def _course(
    results: StudyResults,
    members: Sequence[_Member],
    reached: Mapping[str, int],
    wanted: Mapping[str, int],
) -> Course:
    first = results.looks[0]
    num_seeds = {key: seeds or first for key, seeds in reached.items()}
    cells = tuple(first_seeds(cell, num_seeds[cell.label]) for cell in results.cells)
    stopped = {member.cell.label: member.track.stopped for member in members}
    stops = tuple(
        Stop(
            cell.variant,
            cell.setting,
            num_seeds[cell.label],
            results.looks[-1],
            "" if cell.label in wanted else stopped.get(cell.label, "follows"),
        )
        for cell in results.cells
    )
    there = sum(len(cell.records) for cell in results.cells)
    return Course(
        results=replace(results, cells=cells),
        judged={member.cell.label: _judged(member, results) for member in members},
        stops=stops,
        wanted=wanted,
        unused=there - sum(len(cell.records) for cell in cells),
    )


def _judged(member: _Member, results: StudyResults) -> Difference:
    """At the member's last look; before the first, without a verdict."""
    track = member.track
    if not track.num_looks:
        difference = _difference(replace(member, seeds=results.looks[0]), results)
        return replace(difference, verdict="too_few_seeds", uncorrected="too_few_seeds", p=None, p_holm=None)
    difference = repeated(_difference(member, results), results.looks, member.family)
    towards: Verdict = (
        "better" if track.rises == (metric_of(difference.metric).better == "higher") else "worse"
    )
    verdict: Verdict = "undecided"
    if track.stopped == "lost":
        verdict = "pairs_lost"
    elif track.decided:
        verdict = "same" if track.decided == "same" else towards
    return replace(
        difference,
        p=track.p,
        p_holm=None if verdict == "pairs_lost" else track.p_holm,
        margin_p=None if difference.margin is None or verdict == "pairs_lost" else track.margin_holm,
        twin=member.twin,
        uncorrected=towards if track.p <= ALPHA and track.differs_now else "undecided",
        verdict=verdict,
    )
