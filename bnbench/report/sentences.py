"""The answer in words: one sentence a variant, with the effect, its interval and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.comparison import Comparison
from bnbench.analysis.contents import Summary
from bnbench.analysis.intervals import ALPHA, MIN_SEEDS
from bnbench.analysis.speed import SpeedComparison
from bnbench.metrics import metric_of
from bnbench.plan import MISSING
from bnbench.report.numbers import (
    amount_text,
    difference_text,
    interval_text,
    margin_text,
    outcome_text,
    p_text,
    plain_interval,
    target_text,
    words,
)
from bnbench.report.table import count_text


def verdict_sentences(summary: Summary) -> list[str]:
    """One a variant, on the study's primary metric; in a sweep, with every variant at its best setting."""
    comparisons = [c for best in summary.best_settings for c in best.comparisons] or summary.comparisons
    where = ", each at its best setting" if summary.best_settings else ""
    return [
        _sentence(comparison, where) + "".join(_failures(summary, comparison))
        for comparison in comparisons
        if comparison.metric == summary.primary and comparison.at == "final"
    ]


def speed_sentences(summary: Summary) -> list[str]:
    """One a variant and target, without a verdict: no correction is made for the targets and clocks.

    None in a sweep, whose tables have every setting.
    """
    if summary.best_settings:
        return []
    return [
        _speed_sentence(speed, summary, index)
        for index, target in enumerate(summary.targets)
        for speed in summary.speeds
        if speed.target == target and speed.clock == "steps"
    ]


def _speed_sentence(speed: SpeedComparison, summary: Summary, index: int) -> str:
    ours, theirs = (_reached(summary, speed, name, index) for name in (speed.variant, speed.baseline))
    head = f"{speed.label} reached {target_text(speed.target)} with {ours} ({speed.baseline}: {theirs})"
    if speed.ratio is None:
        return f"{head}: no speed-up can be given."
    ratio = plain_interval(speed.ratio, speed.ratio_low, speed.ratio_high, sign="")
    ratio = ratio.replace(" [", ", 95% interval [")
    seeds = f"{count_text(speed.n_both, speed.n_planned)} seed{'s' * (speed.n_planned != 1)}"
    return f"{head}: speed-up in steps {ratio}, over {seeds} where both did."


def _reached(summary: Summary, speed: SpeedComparison, name: str, index: int) -> str:
    """ "4 of 5 runs"."""
    found = (variant for variant in summary.variants if variant.variant == name)
    variant = next(variant for variant in found if variant.setting == speed.setting)
    return f"{variant.targets[index].k} of {len(variant.seeds)} runs"


def _sentence(comparison: Comparison, where: str) -> str:
    ours, theirs, metric = comparison.label, comparison.baseline_label, words(comparison.metric) + where
    if not comparison.n:
        return f"{ours}: no verdict against {theirs} in {metric}: no seed has a number for both."
    numbers = _numbers(comparison)
    match comparison.verdict:
        case "too_few_seeds":
            needed = f"not enough seeds for a verdict ({MIN_SEEDS} or more)"
            return f"{ours} against {theirs} in {metric}: {numbers}: {needed}."
        case "better" | "worse":
            trust = f"{_power(comparison)}{_disagree(comparison)}"
            return f"{ours} is {comparison.verdict} than {theirs} in {metric}: {numbers}{trust}."
        case "same":
            margin = margin_text(comparison)
            return (
                f"{ours} is the same as {theirs} within {margin} in {metric}: {numbers}{_inner(comparison)}."
            )
    return (
        f"{ours} against {theirs} in {metric}: undecided: {numbers}{_holm(comparison)}"
        f"{_power(comparison)}{_not_the_same(comparison)}{_disagree(comparison)}."
    )


def _numbers(comparison: Comparison) -> str:
    """ "+1.83 pp, 95% interval [+1.10, +2.56], 5 paired seeds"."""
    text = difference_text(comparison).replace(" [", ", 95% interval [")
    seeds = f"{comparison.n} paired seed{'' if comparison.n == 1 else 's'}"
    lost = comparison.n_planned - comparison.n
    return f"{text}, {seeds}{f' of {comparison.n_planned} planned' if lost else ''}"


def _inner(comparison: Comparison) -> str:
    """The interval that lies inside the margin, and what is to be said of a difference that is sure but small."""
    percent = metric_of(comparison.metric).percent
    inner = interval_text(None, comparison.inner_low, comparison.inner_high, percent=percent)
    sure = comparison.uncorrected in ("better", "worse") and (comparison.p_holm or 0) <= ALPHA
    small = f"; {comparison.uncorrected}, but by less than the study's margin" if sure else ""
    return f"; 90% interval {inner}{small}"


def _holm(comparison: Comparison) -> str:
    """Said where one comparison alone would have had a verdict."""
    if comparison.uncorrected == "undecided":
        return ""
    p = p_text(comparison.p_holm)
    return (
        f"; {comparison.uncorrected} on its own, but not among {comparison.family} comparisons (Holm p {p})"
    )


def _power(comparison: Comparison) -> str:
    """How large a difference would have had to be; nothing can be said where the seeds don't scatter."""
    if not comparison.detectable:
        return "; equal on every seed" if not any(value for _, value in comparison.values) else ""
    seen = amount_text(comparison, comparison.detectable, sign="")
    needed = f"; the one that was seen needs {comparison.needed:,} seeds" if comparison.needed else ""
    return f"; {comparison.n} seeds would have seen {seen} (80% power){needed}"


def _not_the_same(comparison: Comparison) -> str:
    if comparison.margin is None:
        return ""
    return f"; nor shown to be the same within {margin_text(comparison)}"


def _disagree(comparison: Comparison) -> str:
    if not comparison.checks_disagree:
        return ""
    return f"; but the sign-flip test says otherwise (p {p_text(comparison.sign_flip_p)})"


def _failures(summary: Summary, comparison: Comparison) -> Iterator[str]:
    """ " 2 of 5 runs of batch were not finite." for both sides, so that no mean hides them."""
    sides = (comparison.label, comparison.baseline_label)
    for variant in summary.variants:
        for outcome, count in variant.outcomes.items():
            if variant.label in sides and count and outcome != "finished":
                yield f" {count} of {len(variant.seeds)} runs of {variant.label} {_verb(outcome, count)}."


def _verb(outcome: str, count: int) -> str:
    """ "were not finite", "is missing", "crashed"."""
    if outcome == "crashed":
        return outcome
    be = ("is", "are") if outcome == MISSING else ("was", "were")
    return f"{be[count > 1]} {outcome_text(outcome)}"
