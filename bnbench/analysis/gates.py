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
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from bnbench.analysis.methods.intervals import MIN_SEEDS
from bnbench.analysis.sweeps import MIN_PARTED
from bnbench.base.errors import GateError, UnknownNameError, unknown_name
from bnbench.base.metrics import RECALL, Metric
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts
from bnbench.study import Margin
from bnbench.study.evaluation import AT, RUNNING, Way, is_line

SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: The name of a class may hold anything.
_SIDE = rf"\s*(?P<variant>\S+?)\.(?P<metric>\w+_{RECALL}:.+?|[^.\s]+?)"
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
                raise GateError(f"--fail-if '{gate.text}': {_unknown(name, variants)}")
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


def _unknown(name: str, variants: Collection[str]) -> str:
    """Why there is no such variant, and the fix where its line would need another way of inference."""
    variant, at, way = name.partition(AT)
    if not at or variant not in variants or way not in get_args(Way) or way == RUNNING.name:
        return unknown_name("variant", name, variants)
    return f"the study does not measure {way}. Fix: evaluate: [running, {way}] in the study, or a gate on {variant}."


def _check_number(gate: Gate, metric: Metric) -> None:
    """Raises GateError where the answer is known before anything is trained: a share is from 0 to 1, a loss from 0."""
    highest, lowest = metric.highest, -math.inf if metric.lowest is None else metric.lowest
    value = gate.margin if gate.other else gate.limit
    if value is None:
        return
    fix = (
        f"{value / 100:g} or {value:g}% in place of {value:g}." if metric.percent and 1 < value <= 100 else ""
    )
    if gate.other and value > highest - max(lowest, -1):
        why = f"{gate.metric} is {metric.bounds}: no difference is larger."
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
        raise GateError(f"--fail-if '{gate.text}': {gate.metric} is {metric.bounds}: {holds}.", fix=fix)


def _with_margin(gate: Gate, margin: Margin | None) -> Gate:
    """With the study's margin where the gate needs one and names none."""
    if gate.kind not in ("not the same as", "not as good as") or gate.margin is not None:
        return gate
    if margin is None or margin.metric != gate.metric:
        declared = f"a margin of {margin.metric}" if margin else "no margin"
        raise GateError(
            f"--fail-if '{gate.text}': how much may it differ? The study has {declared}, none of {gate.metric}.",
            fix=f"margin={{metric: {gate.metric}, value: 0.005}}, or '{gate.text} within 0.5%'.",
        )
    return replace(gate, margin=margin.value)


def share_gates(texts: Sequence[str], studies: Sequence[Collection[str]]) -> list[tuple[str, ...]]:
    """Which gates are about which study, given the names of each study's variants.

    A gate is about every study that has its variants. Raises GateError where that is none.
    """
    for gate in map(_parse, texts):
        if not any(set(gate.variants) <= set(names) for names in studies):
            known = list(dict.fromkeys(name for names in studies for name in names))
            strange = next((name for name in gate.variants if name not in known), None)
            why = _unknown(strange, known) if strange else "no study has both of its variants."
            raise GateError(f"--fail-if '{gate.text}': {why}")
    return [tuple(text for text in texts if set(_parse(text).variants) <= set(names)) for names in studies]


def gate_columns(texts: Sequence[str]) -> list[str]:
    """The metric of each gate, with its split. Raises GateError."""
    return [_parse(text).metric for text in texts]


def check_lines(texts: Sequence[str], lines: Collection[str]) -> None:
    """Raises GateError where a gate is about a line such as "none@precise" that no network of the study has."""
    for gate in map(_parse, texts):
        if strange := next((name for name in gate.variants if is_line(name) and name not in lines), None):
            variant, _, way = strange.partition(AT)
            raise GateError(
                f"--fail-if '{gate.text}': {strange}: {variant} has no running statistics that {way} could replace.",
                fix=f"a gate on {', '.join(lines) or variant}.",
            )


def _parse(text: str) -> Gate:
    limit, verdict = _LIMIT.fullmatch(text), _VERDICT.fullmatch(text)
    match = verdict or limit
    if not match:
        raise GateError(f"--fail-if '{text}': cannot be parsed.", fix=f"write {_FORMS}.")
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
