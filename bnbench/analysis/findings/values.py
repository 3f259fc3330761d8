"""From the results of a study to the values of a claim's quantity, seed by seed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bnbench.analysis.findings.finding import Claim, Criterion
from bnbench.analysis.findings.measured import Measured
from bnbench.analysis.methods.intervals import mean
from bnbench.analysis.quantities import Values, common_seeds, values_of
from bnbench.base.errors import UnknownNameError
from bnbench.base.metrics import metric_of
from bnbench.results import StudyResults
from bnbench.study import Study
from bnbench.study.expression_checks import faults
from bnbench.study.expressions import FORMS, TRAINED, Expression, ExpressionError, parse_expression

#: What a quantity may be, without a comparison.
_FORMS = (
    "'batch.test_accuracy - none.test_accuracy', 'none.steps_to_target / batch.steps_to_target' or "
    "'batch.usable(optimizer.lr) - none.usable(optimizer.lr)'"
)


def check_quantities(claims: Sequence[Claim], study: Study | None) -> Iterator[tuple[str, str]]:
    """What is wrong with the quantities of claims for this study: the claim's name and the mistake with its fix.

    study: None where it has mistakes of its own. A quantity that is missing is reported elsewhere.
    """
    for claim in claims:
        if not claim.quantity:
            continue
        try:
            expression = expression_of(claim.quantity, claim.criterion)
        except ExpressionError as error:
            yield claim.name, f"quantity: {error}"
            continue
        for fault in dict.fromkeys(faults(expression, study) if study else ()):
            yield claim.name, f"quantity: {fault}"
        if claim.published.values is not None and [sign for sign, _ in expression.terms] != [1, -1]:
            yield (
                claim.name,
                f"published.values are two numbers, and the quantity {claim.quantity!r} is neither A - B nor A / B. "
                "Fix: value: with one number.",
            )


def expression_of(quantity: str, criterion: Criterion) -> Expression:
    """The quantity with its criterion. Raises ExpressionError, also where the quantity has a comparison of its own."""
    outside = re.sub(r"\[[^\]]*\]", "", quantity)
    if any(sign in outside for sign in "<>="):
        message = f"'{quantity}' has a comparison. Fix: the quantity alone, and `criterion: \"> 0\"`"
        raise ExpressionError(message)
    compared = criterion.kind in ("above", "below") and criterion.number is not None
    # what is held against the published number can be compared with anything: a half lies in every quantity's range
    end = f" {'<' if criterion.kind == 'below' else '>'} {criterion.number!r}" if compared else " > 0.5"
    try:
        expression = parse_expression(quantity + end)
    except ExpressionError as error:
        message = str(error).replace(quantity + end, quantity).replace(f'at "{end.strip()}"', "at its end")
        raise ExpressionError(message.replace(FORMS, _FORMS)) from None
    if criterion.kind == "within" and not criterion.relative:
        expression = replace(expression, within=criterion.tolerance)
    return expression if compared else replace(expression, text=quantity)


def measure(results: StudyResults, claim: Claim) -> Measured:
    """The values of a claim's quantity, for the seeds that have it on every side.

    A value may be known between two bounds alone: a run that never reached its target needs more than its budget.
    """
    expression = expression_of(claim.quantity, claim.criterion)
    signs = tuple(sign for sign, _ in expression.terms)
    try:
        values = [values_of(results, quantity) for quantity in expression.quantities]
    except UnknownNameError as error:
        count = len({seed for cell in results.cells for seed in cell.seeds})
        empty = Measured((), tuple(() for _ in signs), signs, ratio=expression.ratio, planned=count)
        return empty.without_values(str(error))
    planned = common_seeds(values)
    seeds = tuple(seed for seed in planned if all(seed in one.bounds for one in values))
    least, most = _sides(values, signs, seeds, 1), _sides(values, signs, seeds, -1)
    return Measured(
        seeds=seeds,
        sides=least,
        most=() if least == most else most,
        signs=signs,
        ratio=expression.ratio,
        shares=len(values) <= 2 and all(one.quantity.name == TRAINED for one in values),
        planned=len(planned),
        errors=tuple(
            _error(one, side, log=expression.ratio) for one, side in zip(values, least, strict=True)
        ),
        percent=not expression.ratio and all(_is_share(one.quantity.name) for one in values),
        note=_note(values, seeds),
    )


def _sides(
    values: Sequence[Values], signs: Sequence[int], seeds: Sequence[int], low_sign: int
) -> tuple[tuple[float, ...], ...]:
    """The lower bounds of the sides with this sign, the upper ones of the others; +1 makes the sum least, -1 most."""
    return tuple(
        tuple(one.bounds[seed][0 if sign == low_sign else 1] for seed in seeds)
        for one, sign in zip(values, signs, strict=True)
    )


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
        parts.append(f"{len(censored)} known as a bound alone")
    missing = {seed for one in values for seed in one.planned} - set(seeds)
    missing -= {seed for which in lost.values() for seed in which}
    if missing:
        parts.append(f"{len(missing)} not run")
    return ", ".join(parts)
