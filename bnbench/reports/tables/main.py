"""The main table: one row per variant, or in a sweep one row per setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.difference import Difference
from bnbench.base.metrics import metric_of, parted
from bnbench.reports.numbers import NOTHING, heading, outcome_text, spread_text, with_unit
from bnbench.reports.sentences.agreement import is_repeated
from bnbench.reports.sentences.effect import change_text, interval_words
from bnbench.reports.sentences.inference import line_words
from bnbench.reports.sentences.speed import goal_text
from bnbench.reports.sentences.verdicts import DECIDED
from bnbench.reports.tables.outcomes import milliseconds
from bnbench.reports.tables.table import Table, baseline_first
from bnbench.study.evaluation import is_line
from bnbench.study.records import OUTCOMES

#: Marks of the verdicts that decide something.
MARKS = {"better": "*", "worse": "*", "same": "="}
#: A run that did not finish, in the table of a sweep.
FAILED = "!"
#: Outcomes whose name is too long for a column beside six others.
_SHORT = {"stuck_at_chance": "stuck", "worse_than_at_start": "worse"}


def main_table(summary: Summary) -> Table:
    """Primary metric, difference with its interval and mark, loss, time to target, time per step, failures.

    >>> main_table(summary).rows[1]
    ("batch", "99.06 ± 0.25", "+1.2* [0.4, 2.1]", "0.0481 ± 0.0046", "108", "0.135")
    """
    return _of_a_sweep(summary) if summary.swept_keys and summary.best_settings else _of_variants(summary)


def _of_variants(summary: Summary) -> Table:
    variants = baseline_first(summary)
    columns = _columns(summary, variants)
    rows = tuple(tuple(cell(variant) for _, cell in columns.values()) for variant in variants)
    align = "".join(side for side, _ in columns.values())
    return Table("Main results", _caption(summary, columns), tuple(columns), rows, align, judges=True)


Column = tuple[str, Callable[[VariantSummary], str]]


def _columns(summary: Summary, variants: Sequence[VariantSummary]) -> dict[str, Column]:
    """Heading -> alignment, and the cell of a variant; without the columns that have nothing to show."""
    beside = _beside(summary)
    columns: dict[str, Column] = {
        "variant": ("l", lambda variant: variant.label),
        with_unit(summary.primary): ("r", _spread(summary.primary)),
    }
    if differences := _differences(summary):
        columns[f"against {summary.baseline}"] = ("r", lambda v: _difference(v, summary, differences))
    if beside:
        columns[with_unit(beside)] = ("r", _spread(beside))
    if summary.targets and not summary.only_looked_at:
        columns[_target_heading(summary)] = ("r", _steps_to_target)
    if not summary.only_looked_at:
        columns["ms per step"] = (
            "r",
            lambda v: NOTHING if v.seconds_refused else milliseconds(v, scatter=False),
        )
    if any(_failures(variant) for variant in variants):
        columns["failed runs"] = ("l", lambda variant: _failures(variant) or "none")
    return columns


def _beside(summary: Summary) -> str:
    """The metric next to the primary one: the loss where tables show it, else the first that they show; "" for none."""
    part, of = parted(summary.primary)
    shown = [name for name in summary.task.default_metrics if name != of]
    names = [name for name in ("loss", *shown) if name in shown]
    columns = (f"{part}_{name}" for name in names)
    return next((each for each in columns if all(("final", each) in v.spreads for v in summary.variants)), "")


def _differences(summary: Summary) -> dict[str, Difference]:
    """By label: the comparisons of the primary metric at the end, and those of the checks."""
    return {c.label: c for c in summary.comparisons if (c.metric, c.at) == (summary.primary, "final")}


def _spread(column: str) -> Callable[[VariantSummary], str]:
    percent = metric_of(column).percent
    return lambda v: spread_text(v.spreads["final", column], len(v.seeds), percent=percent)


def _difference(variant: VariantSummary, summary: Summary, differences: Mapping[str, Difference]) -> str:
    """For example "+1.2* [0.4, 2.1]"."""
    if variant.variant == summary.baseline:
        return "baseline"
    difference = differences.get(variant.label)
    if difference is None or difference.difference is None:
        return NOTHING
    interval = interval_words(difference).replace(" to ", ", ")
    return f"{_change(difference, summary)}{f' [{interval}]' if interval else ''}"


def _change(difference: Difference, summary: Summary) -> str:
    """For example "+1.2*": the unit stands in the caption."""
    return f"{change_text(difference).removesuffix(' points')}{MARKS.get(_verdict(difference, summary), '')}"


def _verdict(difference: Difference, summary: Summary) -> str:
    """A variant with `role: check` that repeats the one it checks has the verdict of that one."""
    repeats = (a for a in summary.agreements if a.label == difference.label and is_repeated(a))
    if agreement := next(repeats, None):
        return _differences(summary)[agreement.check_of_label].verdict or ""
    return difference.verdict or ""


def _target_heading(summary: Summary) -> str:
    target = summary.targets[0]
    value = 100 * target.value if metric_of(target.metric).percent else target.value
    return f"steps to {value:.4g}{'%' if metric_of(target.metric).percent else ''}"


def _steps_to_target(variant: VariantSummary) -> str:
    """For example "108"; ">540 (1 of 5)" where most runs never reached it, ">540" where none did."""
    if is_line(variant.variant):
        return NOTHING
    target = variant.targets[0]
    reached = f" ({target.k} of {target.n})" if 0 < target.k < target.n else ""
    if target.median_steps is None:
        return f">{target.budget:,}{reached}" if target.budget else NOTHING
    return f"{target.median_steps:g}{reached}"


def _failures(variant: VariantSummary) -> str:
    """For example "2 crashed, 1 stuck"; "" where every run that is there finished."""
    return ", ".join(
        f"{variant.outcomes[outcome]} {_SHORT.get(outcome, outcome_text(outcome))}"
        for outcome in OUTCOMES
        if outcome != "finished" and variant.outcomes[outcome]
    )


def _caption(summary: Summary, columns: Mapping[str, Any]) -> str:
    counts = sorted({len(variant.seeds) for variant in summary.variants})
    seeds = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))
    parts = [f"±: standard deviation over {seeds} seeds." if counts[-1] > 1 else "One seed, so no ±."]
    if f"against {summary.baseline}" in columns:
        parts.append(_difference_words(summary))
    parts += [line_words(summary)] if line_words(summary) else []
    if summary.targets and not summary.only_looked_at:
        parts.append(f"Steps to {goal_text(summary.targets[0])}: median of all runs.")
    if refused := list(dict.fromkeys(v.seconds_refused for v in summary.trained if v.seconds_refused)):
        parts.append(f"ms per step {NOTHING}: not comparable ({'; '.join(refused)}).")
    cells = [_spread(column)(variant) for column in (summary.primary,) for variant in summary.variants]
    if any(" of " in cell for cell in cells):
        parts.append("(k of n): only k of n runs have a number.")
    return " ".join([*parts, *_about_not_finite(summary)])


def _about_not_finite(summary: Summary) -> list[str]:
    """What an accuracy means where the outputs are NaN or infinite."""
    failed = any(variant.outcomes["not_finite"] for variant in summary.variants)
    if not (failed and summary.primary.endswith("accuracy")):
        return []
    return ["A run that is not finite predicts no class: its accuracy is 0."]


def _difference_words(summary: Summary, interval: str = " [95% interval]") -> str:
    """For example "Against none: points [95% interval], paired by seed; * better or worse (p < 0.05)."."""
    differences = _differences(summary).values()
    unit = "points" if metric_of(summary.primary).percent else "difference"
    methods = {difference.method for difference in differences}
    test = "paired t test" if methods <= {"t"} else "studentised bootstrap of pairs"
    if not any(map(interval_words, differences)):
        return f"Against {summary.baseline}: {unit}."
    text = f"Against {summary.baseline}: {unit}{interval}, {test} over seeds"
    family = max((difference.family for difference in differences if difference.verdict), default=1)
    holm = f" after Holm's correction for {family} comparisons" if family > 1 else ""
    text += f"; *: p < 0.05{holm}" if any(d.verdict in DECIDED for d in differences) else ""
    same = any(difference.verdict == "same" for difference in differences)
    return f"{text}{'; =: the same within the margin' if same else ''}."


def _of_a_sweep(summary: Summary) -> Table:
    """One row per setting and one column per variant, or transposed if there are more variants than settings."""
    keys = summary.swept_keys
    settings = _settings(summary, keys)
    names = summary.names
    grid = {
        (name, values): _cell(summary, name, dict(zip(keys, values, strict=True)))
        for name in names
        for values in settings
    }
    failed = f" {FAILED}: not every run finished." if any(FAILED in cell for cell in grid.values()) else ""
    caption = (
        f"{heading(with_unit(summary.primary))} at each setting: mean over seeds, and in brackets the "
        f"difference. {_difference_words(summary, '')}{failed}"
    )
    caption = " ".join([caption, *_about_not_finite(summary)])
    if len(names) > len(settings):
        heads = [
            ", ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
            for values in settings
        ]
        rows = [(name, *(grid[name, values] for values in settings)) for name in names]
        return Table(
            "Main results", caption, ("variant", *heads), tuple(rows), "l" + "r" * len(heads), judges=True
        )
    rows = [(*values, *(grid[name, values] for name in names)) for values in settings]
    align = "l" * len(keys) + "r" * len(names)
    return Table("Main results", caption, (*keys, *names), tuple(rows), align, judges=True)


def _settings(summary: Summary, keys: Sequence[str]) -> list[tuple[str, ...]]:
    """The settings as text, in the study's order; a variant without the keys adds none."""
    return list(
        dict.fromkeys(
            tuple(str(variant.setting[key]) for key in keys)
            for variant in summary.variants
            if all(key in variant.setting for key in keys)
        )
    ) or list(
        dict.fromkeys(tuple(str(v.setting.get(key, NOTHING)) for key in keys) for v in summary.variants)
    )


def _cell(summary: Summary, name: str, setting: Mapping[str, str]) -> str:
    """For example "95.2 (+58.1*)"; the baseline has its mean alone."""
    variant = _at(summary, name, setting)
    if variant is None:
        return NOTHING
    spread = variant.spreads["final", summary.primary]
    percent = metric_of(summary.primary).percent
    failed = FAILED if _failures(variant) else ""
    if spread.mean is None:
        return f"{NOTHING}{failed}"
    difference = _differences(summary).get(variant.label)
    level = f"{100 * spread.mean:.1f}" if percent else spread_text(spread, spread.n).partition(" ±")[0]
    if difference is None or difference.difference is None:
        return f"{level}{failed}"
    return f"{level}{failed} ({_change(difference, summary)})"


def _at(summary: Summary, name: str, setting: Mapping[str, str]) -> VariantSummary | None:
    """The variant at this setting, as far as it has the swept keys."""
    return next(
        (
            variant
            for variant in summary.variants
            if variant.variant == name
            and all(str(variant.setting.get(key, value)) == value for key, value in setting.items())
        ),
        None,
    )
