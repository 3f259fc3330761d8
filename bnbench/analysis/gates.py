"""Gates for CI: conditions under which a finished study fails the build.

    VARIANT.METRIC < NUMBER              also <=, >, >=; the mean over seeds, after the last step
    VARIANT.METRIC worse than VARIANT    by the verdict on the paired differences, so that noise fails nothing

Both fail where a planned run of the variants did not finish: a mean of the survivors is
no proof. In a sweep each variant stands for its best setting.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from bnbench.analysis.comparison import compare
from bnbench.analysis.contents import GateOutcome, Summary, VariantSummary
from bnbench.analysis.intervals import MIN_SEEDS
from bnbench.errors import GateError, UnknownNameError, unknown_name
from bnbench.metrics import RECALL, SPLITS, metric_of
from bnbench.results import Cell

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: The name of a class may hold anything.
_SIDE = rf"\s*(?P<variant>\S+?)\.(?P<metric>(?:{'|'.join(SPLITS)})_{RECALL}:.+?|[^.\s]+?)"
_LIMIT = re.compile(rf"{_SIDE}\s*(?P<sign><=|>=|<|>)\s*(?P<value>[^\s%]+)(?P<percent>\s*%)?\s*")
_VERDICT = re.compile(rf"{_SIDE}\s+worse\s+than\s+(?P<other>\S+)\s*")
_FORMS = "'builtin.test_accuracy < 0.95' or 'custom.val_loss worse than builtin'"


@dataclass(frozen=True)
class Gate:
    """One condition. Either sign and limit, or other: the variant that this one must not be worse than."""

    text: str
    variant: str
    metric: str
    sign: str = ""
    limit: float = 0.0
    other: str | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """The one or two variants that it is about."""
        return tuple(filter(None, (self.variant, self.other)))


def read_gates(texts: Sequence[str], variants: Collection[str], num_seeds: int) -> tuple[Gate, ...]:
    """Check every gate against what the study has. Raises GateError, before anything is trained."""
    gates = tuple(_parse(text) for text in texts)
    for gate in gates:
        for name in gate.variants:
            if name not in variants:
                raise GateError(f"--fail-if '{gate.text}': {unknown_name('variant', name, variants)}")
        try:
            metric_of(gate.metric)
        except UnknownNameError as error:
            raise GateError(f"--fail-if '{gate.text}': {error}") from None
        if gate.other and num_seeds < MIN_SEEDS:
            raise GateError(
                f"--fail-if '{gate.text}': {num_seeds} seed{'s' * (num_seeds != 1)} can't have a verdict.",
                fix=f"seeds={MIN_SEEDS} or more, or a gate on the mean, such as 'x.val_loss > 0.3'.",
            )
    return gates


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
        ours = _at_best(summary, gate.variant)
        theirs = _at_best(summary, gate.other) if gate.other else None
        lost = "; ".join(found for found in (_lost(ours), _lost(theirs) if theirs else "") if found)
        if lost:
            yield GateOutcome(gate.text, True, lost)
        else:
            yield _by_verdict(gate, ours, theirs, summary) if theirs else _by_limit(gate, ours)


def _parse(text: str) -> Gate:
    limit, verdict = _LIMIT.fullmatch(text), _VERDICT.fullmatch(text)
    if verdict:
        return Gate(text.strip(), verdict["variant"], verdict["metric"], other=verdict["other"])
    if not limit:
        raise GateError(f"--fail-if '{text}': this is no gate.", fix=f"write {_FORMS}.")
    try:
        value = float(limit["value"]) / (100 if limit["percent"] else 1)
    except ValueError:
        raise GateError(
            f"--fail-if '{text}': \"{limit['value']}\" is not a number.", fix=f"write {_FORMS}."
        ) from None
    return Gate(text.strip(), limit["variant"], limit["metric"], limit["sign"], value)


def _at_best(summary: Summary, name: str) -> VariantSummary:
    best = {found.variant: found.setting for found in summary.best_settings}
    found = [variant for variant in summary.variants if variant.variant == name]
    return next(
        (variant for variant in found if variant.setting == best.get(name, variant.setting)), found[0]
    )


def _lost(variant: VariantSummary) -> str:
    """ "of 5 runs of custom: 1 not finite", "" where all finished."""
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


def _by_verdict(gate: Gate, ours: VariantSummary, theirs: VariantSummary, summary: Summary) -> GateOutcome:
    found = compare(_cell(ours), _cell(theirs), gate.metric, "final", summary.margin)
    verdict = found.verdict
    if found.difference is None or found.ci_low is None:
        return GateOutcome(gate.text, True, f"{found.label} against {found.baseline_label}: {verdict}")
    reason = (
        f"{found.label} against {found.baseline_label} in {gate.metric}: {verdict}: {found.difference:+.4g}, "
        f"95% interval [{found.ci_low:+.4g}, {found.ci_high:+.4g}], {found.n} paired seeds"
    )
    return GateOutcome(gate.text, verdict in ("worse", "pairs_lost", "too_few_seeds"), reason)


def _cell(variant: VariantSummary) -> Cell:
    return Cell(variant.variant, variant.setting, "", variant.seeds, variant.runs)
