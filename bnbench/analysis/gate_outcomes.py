"""Outcomes of the gates: each condition, tested on a finished study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from bnbench.analysis.contents import GateOutcome, Summary, VariantSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.gates import SIGNS, Gate, Kind
from bnbench.analysis.paired import compare
from bnbench.analysis.stops import repeated
from bnbench.analysis.sweeps import MIN_PARTED, at_best, part_seeds, shared_seeds
from bnbench.analysis.twins import repeats
from bnbench.base.metrics import metric_of
from bnbench.results import Cell
from bnbench.study import Margin


def judge_gates(gates: Sequence[Gate], summary: Summary) -> Iterator[GateOutcome]:
    """One outcome for each gate."""
    for gate in gates:
        at_best = summary.at_best_setting
        sides = [at_best[name] for name in gate.variants]
        lost = "; ".join(filter(None, (_lost(side, summary) for side in sides)))
        if lost:
            yield GateOutcome(gate.text, True, lost)
        elif gate.kind == "limit":
            yield _by_limit(gate, sides[0])
        else:
            yield _by_difference(gate, summary)


def _lost(variant: VariantSummary, summary: Summary) -> str:
    """For example "of 5 runs of custom: 1 not finite", "" where all finished."""
    if any(stop.label == variant.label and not stop.stopped for stop in summary.stops):
        return f"the next look of {variant.label} is not complete: the study is not over"
    unfinished = ", ".join(
        f"{count} {outcome.replace('_', ' ')}"
        for outcome, count in variant.outcomes.items()
        if count and outcome != "finished"
    )
    return f"of {len(variant.seeds)} runs of {variant.label}: {unfinished}" if unfinished else ""


def _by_limit(gate: Gate, variant: VariantSummary) -> GateOutcome:
    spread = variant.spreads["final", gate.metric]
    if spread.mean is None or spread.num_nonfinite:
        return GateOutcome(gate.text, True, f"{gate.metric} of {variant.label} is not finite")
    holds = SIGNS[gate.sign](spread.mean, gate.limit)
    seeds = f"{spread.n} seed{'s' * (spread.n != 1)}"
    return GateOutcome(
        gate.text, holds, f"{variant.label}: mean {gate.metric} {spread.mean:.6g} over {seeds}"
    )


def _by_difference(gate: Gate, summary: Summary) -> GateOutcome:
    difference = _compared(gate, summary)
    if isinstance(difference, str):
        return GateOutcome(gate.text, True, difference)
    sides = f"{difference.label} against {difference.baseline_label} in {gate.metric}"
    if difference.n == difference.n_planned and repeats(difference, summary.variants):
        return GateOutcome(
            gate.text, False, f"{sides}: equal on every seed to rounding, {difference.n} paired seeds"
        )
    if (
        difference.n < difference.n_planned
        or difference.difference is None
        or difference.ci_low is None
        or difference.ci_high is None
    ):
        return GateOutcome(
            gate.text, True, f"{sides}: no verdict from {difference.n} of {difference.n_planned} pairs"
        )
    failed, interval = _JUDGES[gate.kind](difference)
    return GateOutcome(
        gate.text, failed, f"{sides}: {difference.difference:+.4g}, {interval}, {difference.n} paired seeds"
    )


def _compared(gate: Gate, summary: Summary) -> Difference | str:
    """The two variants; in a sweep each at the setting that some seeds choose, on the others. Or why not."""
    cells = [
        Cell(v.variant, v.setting, "", v.seeds, v.runs)
        for v in summary.variants
        if v.variant in gate.variants
    ]
    margin = Margin(gate.metric, gate.margin) if gate.margin else summary.margin
    if summary.best_settings:
        choosing, comparing = part_seeds(shared_seeds(cells))
        if choosing == comparing:
            return f"a sweep needs {MIN_PARTED} seeds for it: some choose the setting, the others compare"
        variant, other = (
            at_best(cells, name, choosing, comparing) for name in (gate.variant, str(gate.other))
        )
    else:
        variant, other = (
            next(cell for cell in cells if cell.variant == name) for name in (gate.variant, str(gate.other))
        )
    difference = compare(variant, other, gate.metric, "final", margin)
    return repeated(difference, summary.looks) if summary.looks else difference


def _shown_worse(difference: Difference) -> tuple[bool, str]:
    """Worse, and not within the margin where the study has one."""
    interval = f"95% interval [{difference.ci_low:+.4g}, {difference.ci_high:+.4g}]"
    same = difference.margin is not None and _inside(difference, difference.margin)
    least = _loss_bounds(difference, difference.ci_low, difference.ci_high)[0]
    return difference.verdict != "undecided" and not same and least > 0, interval


def _not_shown_same(difference: Difference) -> tuple[bool, str]:
    """The 90 % interval is not inside the margin (two one-sided tests at 5 %)."""
    interval = f"90% interval [{difference.inner_low:+.4g}, {difference.inner_high:+.4g}], margin {difference.margin:g}"
    return not _inside(difference, difference.margin or 0.0), interval


def _not_shown_as_good(difference: Difference) -> tuple[bool, str]:
    """The largest loss that fits, one-sided at 5 %, is not below the margin (non-inferiority)."""
    most = _loss_bounds(difference, difference.inner_low, difference.inner_high)[1]
    return most >= (
        difference.margin or 0.0
    ), f"worse by at most {most:.4g} (95%, one-sided), margin {difference.margin:g}"


def _inside(difference: Difference, margin: float) -> bool:
    low, high = difference.inner_low, difference.inner_high
    return low is not None and high is not None and -margin < low and high < margin


def _loss_bounds(difference: Difference, low: float | None, high: float | None) -> tuple[float, float]:
    """An interval of the difference as one of how much worse the variant is; infinite where there is none."""
    if low is None or high is None:
        return -math.inf, math.inf
    return (-high, -low) if metric_of(difference.metric).better == "higher" else (low, high)


_JUDGES: dict[Kind, Callable[[Difference], tuple[bool, str]]] = {
    "worse than": _shown_worse,
    "not the same as": _not_shown_same,
    "not as good as": _not_shown_as_good,
}
