"""Whether a study has what an expression names, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bnbench.base.errors import UnknownNameError, nearest, unknown_name
from bnbench.base.indices import FLOOR, INDICES, index_facts, is_floor
from bnbench.base.metrics import Metric
from bnbench.base.probe_quantities import NUMBERS, SERIES, may_be_measured, numbers_of
from bnbench.study.evaluation import AT
from bnbench.study.expression_units import faults_of_units
from bnbench.study.expressions import (
    PROBE,
    RANGES,
    STEPS_TO_TARGET,
    TRAINED,
    Expression,
    Quantity,
    same_value,
)
from bnbench.study.schema import Settings, Study, StudyCell

#: Fewer seeds than this have no interval.
MIN_SEEDS = 3
#: Fewer can't be parted into two that choose a setting and three that compare.
MIN_SEEDS_IN_A_SWEEP = 5
#: Fewer seeds can't have a p of Fisher's exact test of 5 %: 4 against 0 of 4 has 0.029, 3 against 0 of 3 has 0.1.
_MIN_FISHER = 4
#: The part of 5 % on either side of an interval.
_LESS = 0.025
#: The names of quantities that are neither metrics nor indices.
OTHER_NAMES = (
    STEPS_TO_TARGET,
    TRAINED,
    *(f"{name}(KEY)" for name in RANGES),
    f"{PROBE}(MEASURE, LAYER, STEP)",
)


def faults(expression: Expression, study: Study, names: Sequence[str] = ()) -> Iterator[str]:
    """What is wrong with it for this study, each with its fix. names: variants that exist beside the study's."""
    before = 0
    for quantity in dict.fromkeys(expression.quantities):
        for fault in _faults_of(quantity, study, names):
            before += 1
            yield f"'{expression.text}': {fault}"
    if not before and all(quantity.variant in study.line_names for quantity in expression.quantities):
        yield from (f"'{expression.text}': {fault}" for fault in _faults_of_the_whole(expression, study))


def _faults_of(quantity: Quantity, study: Study, names: Sequence[str]) -> Iterator[str]:
    variant, _ = variant_and_mode(quantity.variant)
    known = tuple(dict.fromkeys([*study.line_names, *names]))
    if quantity.variant not in known and variant not in known:
        yield unknown_name("variant", quantity.variant, known)
        return
    cells = [cell for cell in study.cells if cell.variant in (variant, quantity.variant)]
    if not cells:
        return  # the variant has mistakes of its own
    yield from _faults_of_a_mode(quantity.variant, study, cells)
    yield from _faults_of_a_name(quantity, study, cells)
    swept = dict.fromkeys(key for cell in cells for key in cell.setting)
    for key, value in quantity.setting:
        if key not in swept:
            yield f"{quantity.text}: {_not_swept(key, swept, f'[{value}, ...]')}"
        elif not any(same_value(value, cell.setting.get(key)) for cell in cells):
            known_values = dict.fromkeys(str(cell.setting[key]) for cell in cells)
            yield f"{quantity.text}: the sweep has no {key}={value}. Known: {', '.join(known_values)}."


def variant_and_mode(name: str) -> tuple[str, str]:
    """The variant and the way of inference: `batch@precise` is `batch`, evaluated with precise statistics.

    >>> variant_and_mode("batch@precise")
    ('batch', 'precise')
    """
    variant, _, mode = name.rpartition(AT)
    return (variant, mode) if variant else (name, "")


def _faults_of_a_mode(name: str, study: Study, cells: Sequence[StudyCell]) -> Iterator[str]:
    variant, mode = variant_and_mode(name)
    if not mode or name in study.line_names or variant not in study.variants:
        return
    ways = [way.name for way in cells[0].settings.evaluate]
    yield (
        f"{name}: the study does not evaluate {variant} in this way ({mode}), but: {', '.join(ways)}. "
        f"Fix: evaluate: [{', '.join(dict.fromkeys(['running', *ways, mode]))}]."
    )


def _faults_of_a_name(quantity: Quantity, study: Study, cells: Sequence[StudyCell]) -> Iterator[str]:
    name = quantity.name
    if name == TRAINED:
        return
    if name == STEPS_TO_TARGET:
        if not study.targets:
            fix = f"target: {{metric: val_{study.task.primary}, value: 0.9}}"
            yield f"{quantity.text}: the study has no target. Fix: {fix}."
    elif name in RANGES:
        yield from _faults_of_a_range(quantity, cells)
    elif name == PROBE:
        yield from _faults_of_a_probe(quantity, cells)
    elif name in INDICES or is_floor(name):
        yield from _faults_of_an_index(quantity, cells)
    else:
        yield from _faults_of_a_column(quantity, study)


def _faults_of_a_column(quantity: Quantity, study: Study) -> Iterator[str]:
    try:
        study.task.metric_of(quantity.name)
    except UnknownNameError:
        if study.task.metric_named(quantity.name):
            yield f'unknown quantity "{quantity.name}": a metric begins with its part. Fix: test_{quantity.name}.'
        else:
            yield unknown_name("quantity", quantity.name, [*study.task.columns, *INDICES, *OTHER_NAMES])


def _faults_of_a_range(quantity: Quantity, cells: Sequence[StudyCell]) -> Iterator[str]:
    (key,) = quantity.arguments
    swept = dict.fromkeys(key for cell in cells for key in cell.setting)
    if key not in swept:
        yield f"{quantity.text}: {_not_swept(key, swept, '[0.01, 0.1, 1]')}"
        return
    values = [cell.setting[key] for cell in cells if key in cell.setting]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in values):
        yield f"{quantity.text}: a range in decades needs positive numbers, and {key} has {values[0]!r}."
    elif len(set(values)) < 2:
        yield f"{quantity.text}: {key} has one value alone. Fix: sweep: {{{key}: [0.01, 0.1, 1]}}."
    others = {name: {str(cell.setting.get(name)) for cell in cells} for name in swept if name != key}
    fixed = {name for name, _ in quantity.setting}
    free = [name for name, seen in others.items() if len(seen) > 1 and name not in fixed]
    if free:
        value = sorted(others[free[0]])[0]
        yield (
            f"{quantity.text}: the sweep has more than one value of {', '.join(free)}. "
            f"Fix: {quantity.text}[{free[0]}={value}]."
        )


def _faults_of_an_index(quantity: Quantity, cells: Sequence[StudyCell]) -> Iterator[str]:
    facts = index_facts(quantity.name.removesuffix(FLOOR))
    if facts.name not in INDICES:
        guess = nearest(facts.name, INDICES)
        yield f'{quantity.text}: there is no index "{facts.name}".{f" Did you mean {guess}?" if guess else ""}'
        return
    if facts.measure not in common_measures(cells):
        yield (
            f"{quantity.text}: the study does not measure it: {facts.name} needs a probe. "
            f"Fix: probe: {{what: [{facts.measure}]}}."
        )


def _faults_of_a_probe(quantity: Quantity, cells: Sequence[StudyCell]) -> Iterator[str]:
    measures = common_measures(cells)
    measured, layer, step = quantity.arguments
    if not measures:
        yield f"{quantity.text}: the study has no probe. Fix: probe: {{at: [0], what: [activations]}}."
    elif measured in SERIES:
        yield f"{quantity.text}: {measured} has many numbers in a layer, and a claim needs one."
    elif not may_be_measured(measured, measures):
        owner = next((name for name, given in NUMBERS.items() if measured in given), "")
        if owner:
            what = ", ".join([*sorted(measures), owner])
            yield f"{quantity.text}: the probe does not measure {measured}. Fix: probe: {{what: [{what}]}}."
        else:
            yield f"{quantity.text}: {unknown_name('quantity', measured, numbers_of(measures))}"
    if step != "last" and not step.isdecimal():
        yield f'{quantity.text}: the step "{step}" is neither a number from 0 nor last.'
    if layer.isdecimal() and int(layer) < 1:
        yield f"{quantity.text}: layers are counted from 1."


def common_measures(cells: Sequence[StudyCell]) -> set[str]:
    """The measures that the probes of all these cells take; empty where one has no probe."""
    return set.intersection(*(_measures(cell.settings) for cell in cells))


def _measures(settings: Settings) -> set[str]:
    probe = getattr(settings, "probe", None)
    return set() if probe is None else set(probe.what)


def _not_swept(key: str, swept: Sequence[str] | dict[str, None], values: str) -> str:
    guess = nearest(key, swept)
    hint = f' Did you mean "{guess}"?' if guess else ""
    known = f"Swept: {', '.join(swept)}." if swept else f"Fix: sweep: {{{key}: {values}}}."
    return f"{key} is not swept.{hint} {known}"


def _faults_of_the_whole(expression: Expression, study: Study) -> Iterator[str]:
    swept = len(study.cells) > len(study.variants)
    chosen = swept and any(not q.setting and q.name not in RANGES for q in expression.quantities)
    least = MIN_SEEDS_IN_A_SWEEP if chosen else MIN_SEEDS
    count = len(study.seeds)
    if count < least:
        why = ", where some choose the best setting and the others compare" if chosen else ""
        yield f"{count} seed{'s' * (count != 1)} have no interval{why}. Fix: seeds={least} or more."
    shares = [quantity.name == TRAINED for quantity in expression.quantities]
    signs = [sign for sign, _ in expression.terms]
    if any(shares) and (not all(shares) or signs not in ([1], [1, -1]) or expression.ratio):
        yield "the share that trained stands alone, or in a difference of two such shares."
    elif all(shares):
        yield from _undecidable(expression, count)
    if len(expression.terms) > len(set(expression.quantities)):
        twice = next(q for q in expression.quantities if expression.quantities.count(q) > 1)
        yield f"{twice.text} is there twice. Fix: another variant on one side."
        return
    if not any(shares):
        yield from faults_of_units(expression, study)
    yield from _faults_of_the_value(expression, study)
    if expression.sign == "=" and expression.within is None and _margin_value(expression, study) is None:
        yield 'how much may it differ? Fix: "within NUMBER" at its end, or a margin of the study.'


def _undecidable(expression: Expression, seeds: int) -> Iterator[str]:
    """Shares that no outcome of so few seeds could confirm or refute."""
    if len(expression.terms) == 2:
        if seeds < _MIN_FISHER:
            yield f"{seeds} seeds decide nothing about a difference of shares. Fix: seeds={_MIN_FISHER} or more."
        return
    limit, n = expression.value, seeds
    if not 0 < limit < 1:
        return
    # of n seeds that all train, the exact interval begins at 0.025^(1/n); of none, it ends at 1 - 0.025^(1/n)
    while (end := _LESS ** (1 / n)) <= limit <= 1 - end:
        n += 1
    if n > seeds:
        yield f"{seeds} seeds decide nothing about a share of {100 * limit:g}%. Fix: seeds={n} or more."


def margin_of(expression: Expression, study: Study) -> float | None:
    """How far from its value counts as the same: `within`, or the study's margin where it is one of that metric."""
    return expression.within if expression.within is not None else _margin_value(expression, study)


def _margin_value(expression: Expression, study: Study) -> float | None:
    margin = study.margin
    applies = margin and not expression.ratio and all(q.name == margin.metric for q in expression.quantities)
    return margin.value if margin and applies else None


def _faults_of_the_value(expression: Expression, study: Study) -> Iterator[str]:
    """Where the answer is known before anything is trained."""
    low, high = _bounds(expression, study)
    value, sign = expression.value, expression.sign
    words = f"it is from {low:g} to {high:g}" if math.isfinite(high) else f"it is never below {low:g}"
    percent = low >= -1 and high == 1 and 1 < abs(value) <= 100
    hint = f" Fix: {value / 100:g} or {value:g}%." if percent else ""
    if expression.ratio and value <= 0:
        yield f"a ratio is above 0, so that {value:g} can't be its limit. Fix: 1 for no difference."
        return
    above, below = value > high, value < low
    at_top, at_bottom = value == high, value == low
    never = {
        ">": above or at_top,
        ">=": above,
        "<": below or at_bottom,
        "<=": below,
        "=": above or below,
    }[sign]
    always = {">": below, ">=": below or at_bottom, "<": above, "<=": above or at_top, "=": False}[sign]
    if (never or always) and math.isfinite(low):
        yield f"{words}: that {'can never hold' if never else 'always holds'}.{hint}"
    within = expression.within
    if within is not None and math.isfinite(high - low) and within >= high - low:
        yield f"within {within:g}: {words}, no two values are further apart. Fix: within {within / 100:g}."


def _bounds(expression: Expression, study: Study) -> tuple[float, float]:
    """The least and the largest value that the left side can have."""
    if expression.ratio:
        return 0.0, math.inf
    low = high = 0.0
    for sign, quantity in expression.terms:
        least, most = _bounds_of(quantity, study)
        low += least if sign > 0 else -most
        high += most if sign > 0 else -least
    return low, high


def _bounds_of(quantity: Quantity, study: Study) -> tuple[float, float]:
    if quantity.name == TRAINED:
        return 0.0, 1.0
    if quantity.name in (STEPS_TO_TARGET, *RANGES):
        return 0.0, math.inf
    if quantity.name == PROBE or quantity.name in INDICES or is_floor(quantity.name):
        facts = index_facts(quantity.name.removesuffix(FLOOR))
        if quantity.name == PROBE or facts.scale == "difference":
            return -math.inf, math.inf
        return 0.0, 1.0 if facts.scale == "points" else math.inf
    metric: Metric = study.task.metric_of(quantity.name)
    return -math.inf if metric.lowest is None else metric.lowest, metric.highest
