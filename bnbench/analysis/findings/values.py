"""From the results of a study to the values of a claim's quantity, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bnbench.analysis.quantities import Values, common_seeds, values_of
from bnbench.study.expression_checks import faults
from bnbench.study.expressions import TRAINED, Expression, ExpressionError, parse_expression

from bnbench.analysis.findings.finding import Claim
from bnbench.analysis.findings.measured import Measured
from bnbench.analysis.methods.intervals import mean
from bnbench.base.errors import UnknownNameError
from bnbench.base.metrics import metric_of
from bnbench.results import StudyResults
from bnbench.study import Study


def check_quantities(claims: Sequence[Claim], study: Study) -> Iterator[tuple[str, str]]:
    """What is wrong with the quantities of claims for this study: the claim's name and the mistake with its fix."""
    for claim in claims:
        try:
            expression = expression_of(claim.quantity)
        except ExpressionError as error:
            yield claim.name, f"quantity: {error}"
            continue
        for fault in dict.fromkeys(faults(expression, study)):
            yield claim.name, f"quantity: {fault.replace(_SIGN, '')}"
        if claim.published.values is not None and [sign for sign, _ in expression.terms] != [1, -1]:
            yield (
                claim.name,
                f"published.values are two numbers, and the quantity {claim.quantity!r} is neither A - B nor A / B. "
                "Fix: value: with one number.",
            )


#: A quantity is an expression without its comparison.
_SIGN = " > 0"


def expression_of(quantity: str) -> Expression:
    """The parsed quantity. Raises ExpressionError, also where it has a comparison of its own."""
    if any(sign in quantity.partition("[")[0] or sign in quantity.rpartition("]")[2] for sign in "<>"):
        message = f"'{quantity}' has a comparison. Fix: the quantity alone, and `criterion: \"> 0\"`"
        raise ExpressionError(message)
    try:
        expression = parse_expression(quantity + _SIGN)
    except ExpressionError as error:
        raise ExpressionError(
            str(error).replace(quantity + _SIGN, quantity).replace(f'at "{_SIGN.strip()}"', "at its end")
        ) from None
    return expression


def measure(results: StudyResults, claim: Claim) -> Measured:
    """The values of a claim's quantity, for the seeds that have it on every side.

    A value that is known between two bounds alone (a target that was never reached) stands at the bound that speaks
    against the claim.
    """
    expression = expression_of(claim.quantity)
    signs = tuple(sign for sign, _ in expression.terms)
    try:
        values = [values_of(results, quantity) for quantity in expression.quantities]
    except UnknownNameError as error:
        planned = len({seed for cell in results.cells for seed in cell.seeds})
        return Measured((), tuple(() for _ in signs), signs, expression.ratio, planned, note=str(error))
    planned = common_seeds(values)
    least = claim.criterion.kind != "below"
    chosen = {
        seed: [_bound(one, seed, least=least == (sign > 0)) for one, sign in zip(values, signs, strict=True)]
        for seed in planned
    }
    seeds = tuple(seed for seed, found in chosen.items() if all(map(math.isfinite, found)))
    sides = tuple(tuple(chosen[seed][index] for seed in seeds) for index in range(len(values)))
    return Measured(
        seeds=seeds,
        sides=sides,
        signs=signs,
        ratio=expression.ratio,
        planned=len(planned),
        errors=tuple(
            _error(one, side, log=expression.ratio) for one, side in zip(values, sides, strict=True)
        ),
        percent=not expression.ratio and all(_is_share(one.quantity.name) for one in values),
        note=_note(values, seeds),
    )


def _bound(values: Values, seed: int, *, least: bool) -> float:
    low, high = values.bounds.get(seed, (math.nan, math.nan))
    return low if least else high


def _error(values: Values, side: Sequence[float], *, log: bool) -> float:
    """Standard deviation of the rounding, on the scale of the arithmetic."""
    if not log:
        return values.error
    if values.log_error is not None:
        return values.log_error
    middle = mean(side) if side else 0.0
    return values.error / middle if middle > 0 else 0.0


def _is_share(name: str) -> bool:
    if name == TRAINED:
        return True
    try:
        return metric_of(name).percent
    except (KeyError, ValueError, UnknownNameError):
        return False


def _note(values: Sequence[Values], seeds: Sequence[int]) -> str:
    """What became of the other seeds, and which of these are bounds."""
    lost: dict[str, set[int]] = {}
    for one in values:
        for seed, why in one.lost.items():
            lost.setdefault(why.replace("_", " "), set()).add(seed)
    parts = [f"{len(which)} {why}" for why, which in lost.items()]
    censored = {seed for one in values for seed in one.censored}
    if censored:
        parts.append(f"{len(censored)} known as a bound alone, taken against the claim")
    missing = {seed for one in values for seed in one.planned} - set(seeds) - censored
    missing -= {seed for which in lost.values() for seed in which}
    if missing:
        parts.append(f"{len(missing)} not run")
    return ", ".join(parts)
