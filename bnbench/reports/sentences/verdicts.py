"""The answer in words: one sentence a variant, with the effect, its interval and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS
from bnbench.reports.numbers import has_width, margin_text, p_text, words
from bnbench.reports.sentences.agreement import agreement_sentences
from bnbench.reports.sentences.doubts import disagreement, doubts
from bnbench.reports.sentences.effect import change_text, effect_text, interval_words, points, range_text
from bnbench.reports.sentences.looks import before_the_first_look, stop_words
from bnbench.reports.sentences.power import power_sentence
from bnbench.reports.sentences.runs import absent_runs, lost_pairs, success_sentence
from bnbench.reports.sentences.sweeps import best_comparisons, best_words, sweep_sentences

#: Verdicts whose sentences name a difference.
DECIDED = ("better", "worse")


#: In place of a verdict.
ONLY_LOOKED_AT = "No network was trained (no steps were planned): every number describes the initial weights."


def verdict_sentences(summary: Summary, command: str = "") -> list[str]:
    """One sentence per variant, on the study's primary metric; in a sweep, with every variant at its best setting.

    command: what was run, for a plan with more seeds.
    """
    if summary.only_looked_at:
        return [ONLY_LOOKED_AT]
    return [
        *(verdict_sentence(summary, judged, command) for judged in judged_differences(summary)),
        *sweep_sentences(summary),
        *agreement_sentences(summary),
        *same_results_sentences(summary),
    ]


def judged_differences(summary: Summary) -> list[Difference]:
    """The comparisons with a verdict: at the one setting, or in a sweep at the best settings."""
    differences = best_comparisons(summary) if summary.best_settings else summary.comparisons
    return [difference for difference in differences if difference.verdict is not None]


def verdict_sentence(summary: Summary, difference: Difference, command: str = "") -> str:
    """The verdict on one variant, and what limits it.

    >>> verdict_sentence(summary, difference)
    "batch is better than none in test accuracy: 97.8% → 99.1%, +1.2 points (95% interval 0.4 to 2.1, p 0.015, …)."
    """
    where = best_words(summary) if summary.best_settings else ""
    undecided = difference.verdict == "undecided" and not summary.looks
    return (
        _sentence(summary, difference, where)
        + (power_sentence(difference, command, parted=bool(summary.best_settings)) if undecided else "")
        + stop_words(summary, difference)
        + success_sentence(summary, difference)
        + "".join(absent_runs(summary, difference))
    )


def same_results_sentences(summary: Summary) -> Iterator[str]:
    """For example "custom and builtin gave the same results on every seed: they count as one comparison."."""
    baselines = {variant.label for variant in summary.variants if variant.variant == summary.baseline}
    for names in summary.same_results:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        base = any(name in baselines or name == summary.baseline for name in names)
        counted = "equal to the baseline, so not compared" if base else "they count as one comparison"
        yield f"{listed} gave the same results on every seed: {counted}."


def _sentence(summary: Summary, difference: Difference, where: str) -> str:
    pair = f"{difference.label} against {difference.baseline_label}"
    metric = words(difference.metric) + where
    match difference.verdict:
        case "pairs_lost":
            return f"{pair}: no verdict on {metric}, because {_lost(summary, difference)}."
        case "too_few_seeds" if summary.looks:
            return before_the_first_look(summary, difference)
        case "too_few_seeds" if not difference.n:
            reason = lost_pairs(summary, difference) or "no seed has a number for both"
            return f"{pair}: no verdict on {metric}, because {reason}."
        case "too_few_seeds":
            effect = effect_text(summary, difference)
            return f"{pair}: no verdict on {metric} with fewer than {MIN_SEEDS} seeds: {effect}."
        case "better" | "worse":
            head = f"{difference.label} is {difference.verdict} than {difference.baseline_label}"
            return f"{head} in {metric}: {effect_text(summary, difference)}{doubts(difference)}."
        case "same":
            head = f"{difference.label} is the same as {difference.baseline_label} within {margin_text(difference)}"
            return f"{head} in {metric}: {effect_text(summary, difference)}{_inner(difference)}."
    return (
        f"{pair} is undecided in {metric}: {effect_text(summary, difference)}{_holm(difference)}"
        f"{_equal_seeds(difference)}{_together(difference)}{_not_the_same(difference)}{disagreement(difference)}."
    )


def _lost(summary: Summary, difference: Difference) -> str:
    """For example "2 of 5 runs of batch crashed; in the 3 pairs left -12.0 points (95% interval -20 to -4)"."""
    reasons = lost_pairs(summary, difference)
    if not difference.n:
        return reasons
    left = "1 pair" if difference.n == 1 else f"{difference.n} pairs"
    interval = f" (95% interval {text})" if (text := interval_words(difference)) else ""
    return f"{reasons}; in the {left} left, {change_text(difference)}{interval}"


def _inner(difference: Difference) -> str:
    """The interval that lies inside the margin, and whether a difference is sure though small."""
    low, high = difference.inner_low, difference.inner_high
    sure = difference.uncorrected in DECIDED and (difference.p_holm or 0) <= ALPHA
    small = f"; {difference.uncorrected}, but by less than the study's margin" if sure else ""
    if low is None or high is None or not has_width(low, high):
        return small
    return f"; 90% interval {points(range_text(difference, low, high), difference)}{small}"


def _holm(difference: Difference) -> str:
    """Where one comparison alone would have had a verdict."""
    if difference.uncorrected == "undecided":
        return ""
    p = p_text(difference.p_holm)
    return (
        f"; {difference.uncorrected} on its own, but not among {difference.family} comparisons (Holm p {p})"
    )


def _equal_seeds(difference: Difference) -> str:
    if not any(value for _, value in difference.values):
        return "; equal on every seed"
    if difference.ci_low is None:
        return "; the difference is the same on every seed, so nothing tells how far other seeds lie off"
    return ""


def _together(difference: Difference) -> str:
    """The true differences that the seeds allow, of all the family's comparisons together."""
    low, high = difference.family_low, difference.family_high
    if difference.family < 2 or low is None or high is None or difference.ci_low is None:
        return ""
    ends = points(range_text(difference, low, high), difference)
    among = "both" if difference.family == 2 else f"all {difference.family}"
    return f"; {ends} for {among} comparisons together"


def _not_the_same(difference: Difference) -> str:
    if difference.margin is None:
        return ""
    return f"; equality within {margin_text(difference)} is not shown either"
