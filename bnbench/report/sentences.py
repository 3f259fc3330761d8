"""The answer in words: one sentence a variant, with the effect, its interval and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.comparison import MIN_SEEDS, Comparison
from bnbench.analysis.summary import Summary
from bnbench.report.numbers import amount_text, difference_text, words

#: What the verdict is about.
PRIMARY_METRIC = "test_accuracy"


def verdict_sentences(summary: Summary) -> list[str]:
    """One a variant; in a sweep, with every variant at its best setting."""
    comparisons = [c for best in summary.best_settings for c in best.comparisons] or summary.comparisons
    where = ", each at its best setting" if summary.best_settings else ""
    return [
        _sentence(comparison, where) + "".join(_failures(summary, comparison))
        for comparison in comparisons
        if comparison.metric == PRIMARY_METRIC and comparison.at == "final"
    ]


def _sentence(comparison: Comparison, where: str) -> str:
    ours, theirs, metric = comparison.label, comparison.baseline_label, words(comparison.metric) + where
    if not comparison.n:
        return f"{ours}: no verdict against {theirs} in {metric}: no seed has a number for both."
    numbers = _numbers(comparison)
    if comparison.verdict == "not enough seeds":
        needed = f"not enough seeds for a verdict ({MIN_SEEDS} or more)"
        return f"{ours} against {theirs} in {metric}: {numbers}: {needed}."
    if comparison.verdict in ("better", "worse"):
        return f"{ours} is {comparison.verdict} than {theirs} in {metric}: {numbers}."
    return f"{ours}: no detectable difference from {theirs} in {metric}: {numbers}{_power(comparison)}."


def _numbers(comparison: Comparison) -> str:
    """ "+1.83 pp, 95% interval [+1.10, +2.56], 5 paired seeds"."""
    text = difference_text(comparison).replace(" [", ", 95% interval [")
    seeds = f"{comparison.n} paired seed{'' if comparison.n == 1 else 's'}"
    lost = comparison.n_planned - comparison.n
    return f"{text}, {seeds}{f' of {comparison.n_planned} planned' if lost else ''}"


def _power(comparison: Comparison) -> str:
    """How large a difference would have had to be; nothing can be said where the seeds don't scatter."""
    if not comparison.detectable:
        return "; equal on every seed" if not any(value for _, value in comparison.values) else ""
    seen = amount_text(comparison, comparison.detectable, sign="")
    return f"; {comparison.n} seeds would have seen {seen} (80% power)"


def _failures(summary: Summary, comparison: Comparison) -> Iterator[str]:
    """ " 2 of 5 runs of batch diverged." for both sides, so that no mean hides them."""
    sides = (comparison.label, comparison.baseline_label)
    for variant in summary.variants:
        for outcome in ("diverged", "crashed", "missing"):
            count = getattr(variant, outcome)
            if variant.label in sides and count:
                verb = f"{'is' if count == 1 else 'are'} missing" if outcome == "missing" else outcome
                yield f" {count} of {len(variant.seeds)} runs of {variant.label} {verb}."
