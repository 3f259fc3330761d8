"""Whether a study's networks and runs have the layers, steps and ways of inference that its claims name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from bnbench.base.errors import Mistake, nearest
from bnbench.base.probe_quantities import NUMBERS
from bnbench.study.expression_checks import variant_and_mode
from bnbench.study.expressions import PROBE, Expression, Quantity
from bnbench.study.labels import cell_label
from bnbench.study.schema import Study

#: So many layers or steps are named in a message.
_NAMED = 8


@dataclass(frozen=True)
class Looked:
    """What a probe sees of a cell. layers: by depth. has_head: whether the head is one. steps: where each
    measure looks. end: the last step of a run.
    """

    layers: Mapping[int, str]
    has_head: bool
    steps: Mapping[str, tuple[int, ...]]
    end: int


def claim_faults(study: Study, looked: Mapping[str, Looked]) -> Iterator[Mistake]:
    """Layers and steps of `probe(...)` that are not there. looked: by the label of the cell."""
    for expression, quantity in _quantities(study):
        if quantity.name == PROBE:
            yield from dict.fromkeys(_faults(expression, quantity, study, looked))


def way_faults(study: Study, lines: Collection[str]) -> Iterator[Mistake]:
    """Ways of inference of variants without running statistics. lines: names that there are, such as batch@precise."""
    for expression, quantity in _quantities(study):
        variant, way = variant_and_mode(quantity.variant)
        if way and variant in study.variants and quantity.variant not in lines:
            yield _mistake(
                expression,
                quantity,
                f"the network of {variant} has no running statistics that {way} could replace. "
                f"Fix: {variant}.{quantity.name}, or another variant.",
            )


def _quantities(study: Study) -> Iterator[tuple[Expression, Quantity]]:
    """Every quantity of every expression of the study's claims, once an expression."""
    for claim in study.expect:
        for expression in claim.expressions:
            for quantity in dict.fromkeys(expression.quantities):
                yield expression, quantity


def _mistake(expression: Expression, quantity: Quantity, text: str) -> Mistake:
    return Mistake(expression.place or "expect", f"expect: '{expression.text}': {quantity.text}: {text}")


def _faults(
    expression: Expression, quantity: Quantity, study: Study, looked: Mapping[str, Looked]
) -> Iterator[Mistake]:
    variant, _ = variant_and_mode(quantity.variant)
    name, layer, step = quantity.arguments
    for cell in study.cells:
        seen = looked.get(cell_label(cell.variant, cell.setting))
        if (
            seen is None
            or cell.variant not in (variant, quantity.variant)
            or not quantity.stands_at(cell.setting)
        ):
            continue
        for text in filter(None, (_of_a_layer(layer, seen), _of_a_step(step, name, seen))):
            yield _mistake(expression, quantity, text)


def _of_a_layer(layer: str, seen: Looked) -> str:
    words = [*map(str, seen.layers), *seen.layers.values(), "last", "mean", "network"]
    words += ["head"] if seen.has_head else []
    if layer in words:
        return ""
    guess = nearest(layer, words)
    hint = f' Did you mean "{guess}"?' if guess else ""
    numbers = f"the numbers {_listed(list(map(str, seen.layers)))}"
    return f'there is no layer "{layer}".{hint} Known: {_listed(list(seen.layers.values()))}; {numbers}; last, mean.'


def _of_a_step(step: str, quantity: str, seen: Looked) -> str:
    measures = [measure for measure in seen.steps if quantity in NUMBERS.get(measure, (quantity,))]
    steps = sorted({at for measure in measures or seen.steps for at in seen.steps[measure]})
    if not step.isdecimal() or int(step) in steps:
        return ""
    if int(step) > seen.end:
        return f"a run has {seen.end:,} steps. Fix: the step {seen.end}, or last."
    known = _listed(list(map(str, steps)))
    return f"the probe does not look at step {step}, but at {known}. Fix: probe: {{at: [{step}]}}, or another step."


def _listed(names: list[str]) -> str:
    """The first ones and the last one."""
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[: _NAMED - 1])}, ..., {names[-1]}"
