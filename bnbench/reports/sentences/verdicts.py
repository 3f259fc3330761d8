"""The answer in words: one sentence a variant, with the effect, its interval and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.speed import SpeedComparison
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import (
    amount_text,
    detectable_range,
    difference_text,
    has_width,
    interval_text,
    largest_difference,
    margin_text,
    new_samples_text,
    outcome_text,
    p_text,
    ratio_text,
    runs_text,
    target_text,
    words,
)
from bnbench.reports.sentences.agreement import agreement_sentences
from bnbench.reports.sentences.doubts import disagreement, doubts
from bnbench.reports.sentences.looks import before_the_first_look, stop_words
from bnbench.reports.sentences.sweeps import best_comparisons, best_words, sweep_sentences
from bnbench.reports.tables.table import count_text
from bnbench.study.records import MISSING


def verdict_sentences(summary: Summary) -> list[str]:
    """One a variant, on the study's primary metric; in a sweep, with every variant at its best setting."""
    judged = [sentence for _, sentence in judged_comparisons(summary)]
    return [*judged, *sweep_sentences(summary), *agreement_sentences(summary), *_same_results(summary)]


def judged_comparisons(summary: Summary) -> list[tuple[Difference, str]]:
    """Every comparison that has a verdict, with its sentence."""
    comparisons = best_comparisons(summary) if summary.best_settings else summary.comparisons
    where = best_words(summary) if summary.best_settings else ""
    return [
        (
            comparison,
            _sentence(summary, comparison, where)
            + stop_words(summary, comparison)
            + _success(summary, comparison)
            + "".join(_failures(summary, comparison)),
        )
        for comparison in comparisons
        if comparison.verdict is not None
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
    ratio = ratio_text(speed.ratio, speed.ratio_low, speed.ratio_high)
    ratio = ratio.replace(" [", ", 95% interval [")
    seeds = f"{count_text(speed.n_both, speed.n_planned)} seed{'s' * (speed.n_planned != 1)}"
    return f"{head}: speed-up in steps {ratio}, over {seeds} where both did."


def _reached(summary: Summary, speed: SpeedComparison, name: str, index: int) -> str:
    """ "4 of 5 runs"."""
    found = (variant for variant in summary.variants if variant.variant == name)
    variant = next(variant for variant in found if variant.setting == speed.setting)
    target = variant.targets[index]
    return f"{target.k} of {runs_text(target.n)}" if target.n else "no run yet"


def _sentence(summary: Summary, comparison: Difference, where: str) -> str:
    ours, theirs, metric = comparison.label, comparison.baseline_label, words(comparison.metric) + where
    numbers = _numbers(comparison)
    match comparison.verdict:
        case "pairs_lost":
            return f"{ours} against {theirs}: no verdict on {metric}: {_lost(comparison)}."
        case "too_few_seeds" if summary.looks:
            return before_the_first_look(summary, comparison)
        case "too_few_seeds":
            if not comparison.n:
                return f"{ours} against {theirs} in {metric}: no verdict: no seed has a number for both."
            too_few = f"too few seeds for a verdict ({MIN_SEEDS} or more)"
            return f"{ours} against {theirs} in {metric}: {numbers}: {too_few}."
        case "better" | "worse":
            return f"{ours} is {comparison.verdict} than {theirs} in {metric}: {numbers}{doubts(comparison)}."
        case "same":
            margin = margin_text(comparison)
            return (
                f"{ours} is the same as {theirs} within {margin} in {metric}: {numbers}{_inner(comparison)}."
            )
    return (
        f"{ours} against {theirs} in {metric}: undecided: {numbers}{_holm(comparison)}"
        f"{_what_fits(comparison)}{_power(comparison)}{_not_the_same(comparison)}{disagreement(comparison)}."
    )


def _numbers(comparison: Difference) -> str:
    """ "+1.83 pp, 95% interval [+1.10, +2.56], 5 paired seeds"; with both intervals where both are known."""
    text = difference_text(comparison).replace(" [", ", 95% interval [")
    if comparison.new_low is not None:
        text += " for new seeds on these test samples, "
        text += f"{new_samples_text(comparison)} for new samples from the same source"
    seeds = f"{comparison.n} paired seed{'' if comparison.n == 1 else 's'}"
    lost = comparison.n_planned - comparison.n
    return f"{text}, {seeds}{f' of {comparison.n_planned} planned' if lost else ''}"


def _lost(comparison: Difference) -> str:
    """ "2 of 5 not finite; of the 3 that are left: -0.12, 95% interval [-0.20, -0.04]"."""
    reasons = ", ".join(
        f"{count} of {comparison.n_planned} {outcome_text(reason)}"
        for reason, count in comparison.lost.items()
    )
    if not comparison.n:
        return reasons
    left = "pair that is" if comparison.n == 1 else "pairs that are"
    numbers = difference_text(comparison).replace(" [", ", 95% interval [")
    return f"{reasons}; of the {comparison.n} {left} left: {numbers}"


def _inner(comparison: Difference) -> str:
    """The interval that lies inside the margin, and what is to be said of a difference that is sure but small."""
    percent = metric_of(comparison.metric).percent
    inner = interval_text(None, comparison.inner_low, comparison.inner_high, percent=percent)
    sure = comparison.uncorrected in ("better", "worse") and (comparison.p_holm or 0) <= ALPHA
    small = f"; {comparison.uncorrected}, but by less than the study's margin" if sure else ""
    shown = f"; 90% interval {inner}" if has_width(comparison.inner_low, comparison.inner_high) else ""
    return f"{shown}{small}"


def _holm(comparison: Difference) -> str:
    """Said where one comparison alone would have had a verdict."""
    if comparison.uncorrected == "undecided":
        return ""
    p = p_text(comparison.p_holm)
    return (
        f"; {comparison.uncorrected} on its own, but not among {comparison.family} comparisons (Holm p {p})"
    )


def _what_fits(comparison: Difference) -> str:
    """The true differences that the seeds allow, of all the family's comparisons together."""
    differences = [value for _, value in comparison.values]
    if not any(differences):
        return "; equal on every seed"
    if comparison.ci_low is None and differences:
        return "; the same difference on every seed, which does not tell how far another seed's may lie off"
    low, high = comparison.family_low, comparison.family_high
    if low is None or high is None:
        return ""
    among = f" ({comparison.family} comparisons together)" if comparison.family > 1 else ""
    low_text = amount_text(comparison, low).removesuffix(" pp")
    return f"; true differences from {low_text} to {amount_text(comparison, high)} fit{among}"


def _power(comparison: Difference) -> str:
    """How large a difference such seeds usually find, and how well they know that."""
    if not comparison.detectable or comparison.detectable_low is None or comparison.detectable_high is None:
        return ""
    if comparison.detectable > largest_difference(comparison):
        return f"; {comparison.n} seeds with this scatter can't be relied on to find any difference"
    low, high = (
        end / comparison.detectable for end in (comparison.detectable_low, comparison.detectable_high)
    )
    typical = amount_text(comparison, comparison.detectable, sign="")
    return (
        f"; {comparison.n} seeds with this scatter find {typical} in 4 studies of 5 ({detectable_range(comparison)}, "
        f"as {comparison.n} seeds tell the scatter to a factor of {low:.2g} to {high:.2g})"
    )


def _not_the_same(comparison: Difference) -> str:
    if comparison.margin is None:
        return ""
    return f"; nor shown to be the same within {margin_text(comparison)}"


def _same_results(summary: Summary) -> Iterator[str]:
    """ "custom and builtin gave the same results on every seed: they count as one comparison."."""
    baselines = {variant.label for variant in summary.variants if variant.variant == summary.baseline}
    for names in summary.same_results:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        base = any(name in baselines or name == summary.baseline for name in names)
        counted = "what is equal to the baseline is no comparison" if base else "they count as one comparison"
        yield f"{listed} gave the same results on every seed: {counted}."


def _success(summary: Summary, comparison: Difference) -> str:
    """ " batch trained in 5 of 5 runs, none in 0 of 5: Fisher's exact test, p 0.0079." where not every run did."""
    rates = (*summary.best_rates, *summary.rates)
    here = (comparison.label, comparison.baseline_label)
    ours = next((rate for rate in rates if (rate.label, rate.against) == here), None)
    theirs = next((rate for rate in rates if rate.label == comparison.baseline_label), None)
    if not ours or not theirs or not ours.n or not theirs.n:
        return ""
    if (ours.trained, theirs.trained) == (ours.n, theirs.n):
        return ""
    after = " after Holm's correction" if ours.p_holm != ours.p else ""
    test = f": Fisher's exact test, p {p_text(ours.p_holm)}{after}" if ours.p is not None else ""
    return f" {_trained(summary, ours, 'runs')}, {_trained(summary, theirs, '')}{test}."


def _trained(summary: Summary, rate: TrainedRate, runs: str) -> str:
    """ "batch trained in 3 of 5 runs (2 not finite)"."""
    outcomes = next(variant.outcomes for variant in summary.variants if variant.label == rate.label)
    others = ", ".join(
        f"{count} {outcome_text(outcome)}"
        for outcome, count in outcomes.items()
        if count and outcome not in ("finished", "crashed", MISSING)
    )
    verb = " trained" if runs else ""
    text = f"{rate.label}{verb} in {rate.trained} of {runs_text(rate.n) if runs else rate.n}"
    return f"{text} ({others})" if others else text


def _failures(summary: Summary, comparison: Difference) -> Iterator[str]:
    """ " 2 of 5 runs of batch crashed." for both sides, so that no mean hides them."""
    sides = (comparison.label, comparison.baseline_label)
    for variant in summary.variants:
        for outcome in ("crashed", MISSING):
            count = variant.outcomes[outcome]
            if variant.label in sides and count:
                verb = "crashed" if outcome == "crashed" else f"{('is', 'are')[count > 1]} missing"
                yield f" {count} of {runs_text(len(variant.seeds))} of {variant.label} {verb}."
