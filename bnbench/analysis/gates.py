"""Gates for CI: conditions under which a finished study fails the build.

    VARIANT.METRIC < NUMBER                  also <=, >, >=; the mean over seeds, after the last step
    VARIANT.METRIC worse than VARIANT        shown to be worse: the 95 % interval of the paired differences excludes 0
    VARIANT.METRIC not the same as VARIANT   not shown to be the same within the study's margin, or `within NUMBER`
    VARIANT.METRIC not as good as VARIANT    not shown to be worse by less than that margin

The second passes what few seeds can't tell; the last two ask for a proof. All fail where a planned run of the variants
did not finish: a mean over the survivors proves nothing. In a sweep each variant stands for its best setting.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bnbench.analysis.contents import GateOutcome, Summary, VariantSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import MIN_SEEDS
from bnbench.analysis.paired import compare
from bnbench.analysis.stops import repeated
from bnbench.analysis.sweeps import MIN_PARTED, at_best, part_seeds, shared_seeds
from bnbench.analysis.twins import repeats
from bnbench.base.errors import GateError, UnknownNameError, unknown_name
from bnbench.base.metrics import RECALL, SPLITS, Metric, metric_of
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts
from bnbench.results import Cell
from bnbench.study import Margin

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: The name of a class may hold anything.
_SIDE = rf"\s*(?P<variant>\S+?)\.(?P<metric>(?:{'|'.join(SPLITS)})_{RECALL}:.+?|[^.\s]+?)"
_NUMBER = r"(?P<value>[^\s%]+)(?P<percent>\s*%)?"
_VERDICT = re.compile(
    rf"{_SIDE}\s+(?P<kind>worse\s+than|not\s+the\s+same\s+as|not\s+as\s+good\s+as)\s+(?P<other>\S+)"
    rf"(?:\s+within\s+{_NUMBER})?\s*"
)
_LIMIT = re.compile(rf"{_SIDE}\s*(?P<sign><=|>=|<|>)\s*{_NUMBER}\s*")
_FORMS = (
    "'builtin.test_accuracy < 0.95', 'custom.val_loss worse than builtin' or "
    "'custom.test_accuracy not the same as builtin'"
)
Kind = Literal["limit", "worse than", "not the same as", "not as good as"]


@dataclass(frozen=True)
class Gate:
    """One condition. kind "limit": sign and limit; else other: the variant that this one is held against.

    margin: the difference that counts as none, of "not the same as" and "not as good as".
    """

    text: str
    variant: str
    metric: str
    sign: str = ""
    limit: float = 0.0
    other: str | None = None
    kind: Kind = "limit"
    margin: float | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """The one or two variants that it is about."""
        return tuple(filter(None, (self.variant, self.other)))


def read_gates(
    texts: Sequence[str],
    variants: Collection[str],
    num_seeds: int,
    margin: Margin | None = None,
    *,
    swept: bool = False,
    task: TaskFacts = IMAGE_CLASSIFICATION,
) -> tuple[Gate, ...]:
    """Check every gate against what the study has. Raises GateError, before anything is trained."""
    least = MIN_PARTED if swept else MIN_SEEDS
    gates = tuple(_with_margin(_parse(text), margin) for text in texts)
    for gate in gates:
        for name in gate.variants:
            if name not in variants:
                raise GateError(f"--fail-if '{gate.text}': {unknown_name('variant', name, variants)}")
        try:
            metric = task.metric_of(gate.metric)
        except UnknownNameError as error:
            raise GateError(f"--fail-if '{gate.text}': {error}") from None
        _check_number(gate, metric)
        if gate.other and num_seeds < least:
            raise GateError(
                f"--fail-if '{gate.text}': {num_seeds} seed{'s' * (num_seeds != 1)} can't have a verdict"
                f"{' in a sweep, where some choose the setting and the others compare' * swept}.",
                fix=f"seeds={least} or more, or a gate on the mean, such as 'x.val_loss > 0.3'.",
            )
    return gates


def _check_number(gate: Gate, metric: Metric) -> None:
    """Raises GateError where the answer is known before anything is trained: a share is from 0 to 1, a loss from 0."""
    highest = 1.0 if metric.percent else math.inf
    lowest = -math.inf if metric.lowest is None else metric.lowest
    value = gate.margin if gate.other else gate.limit
    if value is None:
        return
    what = "a share, from 0 to 1" if metric.percent else f"never below {lowest:g}"
    fix = (
        f"{value / 100:g} or {value:g}% in place of {value:g}." if metric.percent and 1 < value <= 100 else ""
    )
    if gate.other and value > highest:
        why = f"{gate.metric} is {what}: no difference is larger."
        raise GateError(f"--fail-if '{gate.text}': {why}", fix=fix or "a smaller margin, such as 0.5%.")
    if gate.other:
        return
    always = {"<": value > highest, "<=": value >= highest, ">": value < lowest, ">=": value <= lowest}[
        gate.sign
    ]
    never = {"<": value <= lowest, "<=": value < lowest, ">": value >= highest, ">=": value > highest}[
        gate.sign
    ]
    if always or never:
        holds = "it would always hold" if always else "it can never hold"
        fix = fix or f"a number that {gate.metric} can have, on both sides of it."
        raise GateError(f"--fail-if '{gate.text}': {gate.metric} is {what}: {holds}.", fix=fix)


def _with_margin(gate: Gate, margin: Margin | None) -> Gate:
    """With the study's margin where the gate needs one and names none."""
    if gate.kind not in ("not the same as", "not as good as") or gate.margin is not None:
        return gate
    if margin is None or margin.metric != gate.metric:
        theirs = f"a margin of {margin.metric}" if margin else "no margin"
        raise GateError(
            f"--fail-if '{gate.text}': how much may it differ? The study has {theirs}, none of {gate.metric}.",
            fix=f"margin={{metric: {gate.metric}, value: 0.005}}, or '{gate.text} within 0.5%'.",
        )
    return replace(gate, margin=margin.value)


def share_gates(texts: Sequence[str], studies: Sequence[Collection[str]]) -> list[tuple[str, ...]]:
    """Which gates are about which of several studies, given the names of their variants.

    A gate is about every study that has its variants. Raises GateError where that is none.
    """
    for gate in map(_parse, texts):
        if not any(set(gate.variants) <= set(names) for names in studies):
            known = list(dict.fromkeys(name for names in studies for name in names))
            strange = next((name for name in gate.variants if name not in known), None)
            why = unknown_name("variant", strange, known) if strange else "no study has both of its variants."
            raise GateError(f"--fail-if '{gate.text}': {why}")
    return [tuple(text for text in texts if set(_parse(text).variants) <= set(names)) for names in studies]


def gate_columns(texts: Sequence[str]) -> list[str]:
    """The metric of each gate, with its split. Raises GateError."""
    return [_parse(text).metric for text in texts]


def judge_gates(gates: Sequence[Gate], summary: Summary) -> Iterator[GateOutcome]:
    """One outcome a gate."""
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


def _parse(text: str) -> Gate:
    limit, verdict = _LIMIT.fullmatch(text), _VERDICT.fullmatch(text)
    match = verdict or limit
    if not match:
        raise GateError(f"--fail-if '{text}': this is no gate.", fix=f"write {_FORMS}.")
    value = _value(text, match)
    gate = Gate(text.strip(), match["variant"], match["metric"])
    if not verdict:
        return replace(gate, sign=match["sign"], limit=value or 0.0)
    kind: Kind = " ".join(verdict["kind"].split())  # type: ignore[assignment]
    if value is not None and (value <= 0 or kind == "worse than"):
        why = "is not above 0" if value <= 0 else "is for 'not the same as' and 'not as good as'"
        raise GateError(f"--fail-if '{text}': within {verdict['value']} {why}.", fix=f"write {_FORMS}.")
    return replace(gate, other=verdict["other"], kind=kind, margin=value)


def _value(text: str, match: re.Match[str]) -> float | None:
    """The number of a limit or a margin; None where the gate has none."""
    if match["value"] is None:
        return None
    try:
        value = float(match["value"]) / (100 if match["percent"] else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise GateError(f"--fail-if '{text}': \"{match['value']}\" is not a number.", fix=f"write {_FORMS}.")
    return value


def _lost(variant: VariantSummary, summary: Summary) -> str:
    """ "of 5 runs of custom: 1 not finite", "" where all finished."""
    if any(stop.label == variant.label and not stop.stopped for stop in summary.stops):
        return f"the next look of {variant.label} is not complete: the study is not over"
    shown = ", ".join(
        f"{count} {outcome.replace('_', ' ')}"
        for outcome, count in variant.outcomes.items()
        if count and outcome != "finished"
    )
    return f"of {len(variant.seeds)} runs of {variant.label}: {shown}" if shown else ""


def _by_limit(gate: Gate, ours: VariantSummary) -> GateOutcome:
    spread = ours.spreads["final", gate.metric]
    if spread.mean is None or spread.num_nonfinite:
        return GateOutcome(gate.text, True, f"{gate.metric} of {ours.label} is not finite")
    holds = _SIGNS[gate.sign](spread.mean, gate.limit)
    seeds = f"{spread.n} seed{'s' * (spread.n != 1)}"
    return GateOutcome(gate.text, holds, f"{ours.label}: mean {gate.metric} {spread.mean:.6g} over {seeds}")


def _by_difference(gate: Gate, summary: Summary) -> GateOutcome:
    found = _compared(gate, summary)
    if isinstance(found, str):
        return GateOutcome(gate.text, True, found)
    sides = f"{found.label} against {found.baseline_label} in {gate.metric}"
    if found.n == found.n_planned and repeats(found, summary.variants):
        return GateOutcome(
            gate.text, False, f"{sides}: equal on every seed to rounding, {found.n} paired seeds"
        )
    if found.n < found.n_planned or found.difference is None or found.ci_low is None or found.ci_high is None:
        return GateOutcome(gate.text, True, f"{sides}: no verdict from {found.n} of {found.n_planned} pairs")
    failed, interval = _JUDGES[gate.kind](found)
    return GateOutcome(
        gate.text, failed, f"{sides}: {found.difference:+.4g}, {interval}, {found.n} paired seeds"
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
        ours, theirs = (at_best(cells, name, choosing, comparing) for name in (gate.variant, str(gate.other)))
    else:
        ours, theirs = (
            next(cell for cell in cells if cell.variant == name) for name in (gate.variant, str(gate.other))
        )
    found = compare(ours, theirs, gate.metric, "final", margin)
    return repeated(found, summary.looks) if summary.looks else found


def _shown_worse(found: Difference) -> tuple[bool, str]:
    """Worse, and not within the margin where the study has one."""
    interval = f"95% interval [{found.ci_low:+.4g}, {found.ci_high:+.4g}]"
    same = found.margin is not None and _inside(found, found.margin)
    least = _loss_bounds(found, found.ci_low, found.ci_high)[0]
    return found.verdict != "undecided" and not same and least > 0, interval


def _not_shown_same(found: Difference) -> tuple[bool, str]:
    """The 90 % interval is not inside the margin (two one-sided tests at 5 %)."""
    interval = f"90% interval [{found.inner_low:+.4g}, {found.inner_high:+.4g}], margin {found.margin:g}"
    return not _inside(found, found.margin or 0.0), interval


def _not_shown_as_good(found: Difference) -> tuple[bool, str]:
    """The largest loss that fits, one-sided at 5 %, is not below the margin (non-inferiority)."""
    most = _loss_bounds(found, found.inner_low, found.inner_high)[1]
    return most >= (
        found.margin or 0.0
    ), f"worse by at most {most:.4g} (95%, one-sided), margin {found.margin:g}"


def _inside(found: Difference, margin: float) -> bool:
    low, high = found.inner_low, found.inner_high
    return low is not None and high is not None and -margin < low and high < margin


def _loss_bounds(found: Difference, low: float | None, high: float | None) -> tuple[float, float]:
    """An interval of the difference as one of how much worse the variant is; infinite where there is none."""
    if low is None or high is None:
        return -math.inf, math.inf
    return (-high, -low) if metric_of(found.metric).better == "higher" else (low, high)


_JUDGES: dict[Kind, Callable[[Difference], tuple[bool, str]]] = {
    "worse than": _shown_worse,
    "not the same as": _not_shown_same,
    "not as good as": _not_shown_as_good,
}
