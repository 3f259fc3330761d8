"""Whether the sides of a difference have one unit: an accuracy less a loss is no quantity."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.base.indices import INDICES, is_floor
from bnbench.base.metrics import parted
from bnbench.study.expressions import PROBE, RANGES, STEPS_TO_TARGET, Expression, Quantity
from bnbench.study.schema import Study


def faults_of_units(expression: Expression, study: Study) -> Iterator[str]:
    """The first two quantities of different units, where they are subtracted or divided. No shares that trained."""
    units = {quantity: _unit(quantity, study) for quantity in expression.quantities}
    one, *others = units
    for other in others:
        if units[other] != units[one]:
            yield (
                f"{one.text} is {units[one]} and {other.text} is {units[other]}: they can't be compared. "
                "Fix: the same quantity on both sides."
            )
            return


def _unit(quantity: Quantity, study: Study) -> str:
    """In words. Indices and probes are taken for alike: only their measures know what they count."""
    name = quantity.name
    if name == STEPS_TO_TARGET:
        return "a number of steps"
    if name in RANGES:
        return "a number of decades" if name == RANGES[0] else f"a value of {quantity.arguments[0]}"
    if name == PROBE or name in INDICES or is_floor(name):
        return "a number of the network's inside"
    return "a share" if study.task.metric_of(name).percent else f"a {parted(name)[1]}"
