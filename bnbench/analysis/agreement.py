"""Whether a variant with `role: check` repeats the result of the one that it checks.

Two right implementations give the same numbers but for rounding, and training makes rounding grow, step
by step: from 1e-7 of a loss to all of it in fifty steps or in thousands, as the network and the optimizer
are. So the losses of the first steps are held against a tolerance that grows (`tolerance`), and the
results in the end against each other, as those of any two variants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import ALPHA
from bnbench.analysis.paired import compare
from bnbench.analysis.settings import baselines_of
from bnbench.results import Cell, StudyResults
from bnbench.study.labels import Labelled
from bnbench.study.records import RunRecord

#: So many losses are compared.
FIRST_STEPS = 100
#: What rounding may make of the first loss: its error is some 170 units in the last place of a float32.
FIRST_TOLERANCE = 1e-5
#: By what factor a step may make it larger.
GROWTH = math.exp(1 / 4)

#: agrees: the first losses do, and the end says nothing else. differs: they don't from the first step on, or
#: the end differs. not_shown: the losses drift apart, and the end does not show that they are the same.
Answer = Literal["agrees", "differs", "not_shown"]


@dataclass(frozen=True)
class Agreement(Labelled):
    """A check against the variant that it checks, at one setting.

    steps: how many of the first losses were compared, over `seeds` seeds. largest: their largest difference, as
    a share of the larger one. first_beyond: the first step (from 1) whose difference is more than the
    tolerance, None where none is; and how large it is there. comparison: of the final primary metric, without a
    verdict; same: whether it is the same within the study's margin, None where there is no margin.
    """

    check_of: str
    check_of_label: str
    answer: Answer
    seeds: int
    steps: int
    largest: float | None
    first_beyond: int | None
    at_first_beyond: float | None
    comparison: Difference
    same: bool | None


def agreements(results: StudyResults) -> Iterator[Agreement]:
    """One agreement for each check and setting."""
    for name, other in results.checks.items():
        for cell, checked in zip(results.cells, baselines_of(results.cells, other), strict=True):
            if cell.variant == name and checked:
                yield _agreement(cell, checked, results)


def tolerance(step: int, half_precision: bool = False) -> float:
    """The largest difference of the losses of a step (from 1), as a share of them, that rounding explains.

    half_precision: bf16 has 16 bits fewer than a float32.
    """
    first = FIRST_TOLERANCE * (2**16 if half_precision else 1)
    return min(1.0, first * GROWTH ** (step - 1))


def largest_differences(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> list[float]:
    """Step by step, the largest difference over the pairs as a share of the larger loss; as long as all have one.

    Where one side is not finite, or both are and differ in that, the difference is infinite.
    """
    steps = min((len(run.step_losses) for pair in pairs for run in pair), default=0)
    return [
        max(_share(first.step_losses[step], second.step_losses[step]) for first, second in pairs)
        for step in range(min(steps, FIRST_STEPS))
    ]


def _share(first: float, second: float) -> float:
    if not (math.isfinite(first) and math.isfinite(second)):
        return 0.0 if math.isfinite(first) == math.isfinite(second) else math.inf
    return abs(first - second) / max(abs(first), abs(second)) if first != second else 0.0


def _agreement(cell: Cell, checked: Cell, results: StudyResults) -> Agreement:
    checked_runs = {run.seed: run for run in checked.records if run.step_losses}
    pairs = [
        (run, checked_runs[run.seed]) for run in cell.records if run.step_losses and run.seed in checked_runs
    ]
    half_precision = "bf16" in str(results.study.get("precision", ""))
    shares = largest_differences(pairs)
    beyond = next(
        (step for step, share in enumerate(shares, start=1) if share > tolerance(step, half_precision)), None
    )
    difference = compare(cell, checked, results.primary, "final", results.margin)
    same = None if difference.margin is None else difference.verdict == "same"
    return Agreement(
        variant=cell.variant,
        setting=dict(cell.setting),
        check_of=checked.variant,
        check_of_label=checked.label,
        answer=_answer(difference, same, len(shares), beyond),
        seeds=len(pairs),
        steps=len(shares),
        largest=max(shares, default=None),
        first_beyond=beyond,
        at_first_beyond=None if beyond is None else shares[beyond - 1],
        comparison=replace(difference, verdict=None, uncorrected=None, p_holm=None),
        same=same,
    )


def _answer(difference: Difference, same: bool | None, steps: int, beyond: int | None) -> Answer:
    different = (
        difference.p is not None and difference.p <= ALPHA and difference.uncorrected in ("better", "worse")
    )
    if beyond == 1 or (different and not same):
        return "differs"
    if not steps or difference.lost:
        return "not_shown"
    if beyond is None:
        return "not_shown" if same is False and any(value for _, value in difference.values) else "agrees"
    return "agrees" if same else "not_shown"
