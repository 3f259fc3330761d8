"""The statistical comparison of a study's runs, as sentences for a paper's methods section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import MIN_SEEDS
from bnbench.analysis.methods.resampling import MIN_BOOTSTRAP
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import amount_text, largest_difference, outcome_text, target_text, words
from bnbench.reports.sentences.listing import counted, listed

_TESTS = {
    "t": "the paired t test (two-sided)",
    "bootstrap": f"a studentised bootstrap (9,999 resamples, from {MIN_BOOTSTRAP} pairs on)",
}


def analysis_sentences(summary: Summary) -> Iterator[str]:
    """Tests and intervals, the margin, the power, the targets, and what became of the runs."""
    for part in (_tests, _margin, _power, _targets, _outcomes):
        yield from part(summary)


def _judged(summary: Summary) -> list[Difference]:
    best = (difference for best in summary.best_settings for difference in best.comparisons)
    return [difference for difference in (*summary.comparisons, *best) if difference.verdict is not None]


def _tests(summary: Summary) -> Iterator[str]:
    judged = _judged(summary)
    primary = f"The primary metric is {words(summary.primary)} after the last step"
    if not judged:
        yield f"{primary}; nothing is tested."
        return
    if max(difference.n for difference in judged) < MIN_SEEDS:
        few = (
            "seeds"
            if max(difference.n_planned for difference in judged) < MIN_SEEDS
            else "pairs with a number"
        )
        yield f"{primary}; with fewer than {MIN_SEEDS} {few} no test is made, and the differences are descriptive."
        return
    methods = {difference.method for difference in judged}
    tests = listed(text for name, text in _TESTS.items() if name in methods)
    over = " that hold at all looks together" if summary.looks else ""
    yield f"{primary}; we give mean paired differences with 95% confidence intervals{over}, from {tests}."
    yield _correction(summary)
    if any(difference.new_low is not None for difference in judged):
        yield (
            "A second 95% interval is for new test samples from the same source: it adds the variance over test "
            "samples (crossed random effects of seeds and samples)."
        )


def _correction(summary: Summary) -> str:
    """In a sweep the comparisons at the same setting and those at the best settings are two families."""
    same = max((difference.family for difference in summary.comparisons if difference.verdict), default=0)
    best = max(
        (c.family for difference in summary.best_settings for c in difference.comparisons if c.verdict),
        default=0,
    )
    looks = "for the looks (an alpha-spending bound) " if summary.looks else ""
    if max(same, best) == 1:
        corrected = f"is corrected {looks.strip()}; there" if looks else "needs no correction, as there"
        return f"The p value {corrected} is one comparison; the level is 5%."
    families = [
        f"{counted(size, 'comparison')}{where}"
        for size, where in ((same, " at the same setting" * bool(best)), (best, " at the best settings"))
        if size
    ]
    also = f"{looks}and " if looks else ""
    return (
        f"p values are corrected {also}by Holm's method over {' and over '.join(families)}; the level is 5%."
    )


def _margin(summary: Summary) -> Iterator[str]:
    if summary.margin is None:
        return
    percent = metric_of(summary.margin.metric).percent
    size = f"{100 * summary.margin.value:g} percentage points" if percent else f"{summary.margin.value:g}"
    yield (
        f"A difference in {words(summary.margin.metric)} of less than {size} counts as none: equivalence is tested "
        "with two one-sided t tests at 5%, with Holm's correction."
    )


def _power(summary: Summary) -> Iterator[str]:
    """The smallest effect that such seeds find. Not with looks: there the number of seeds follows the result."""
    sizes = [
        difference
        for difference in _judged(summary)
        if difference.detectable
        and difference.detectable <= largest_difference(difference)
        and not summary.looks
    ]
    if not sizes:
        return
    sizes.sort(key=lambda difference: difference.detectable or 0.0)
    first, last = (
        amount_text(difference, difference.detectable or 0.0, sign="") for difference in (sizes[0], sizes[-1])
    )
    size = first if first == last else f"{first.removesuffix(' pp')} to {last}, depending on the variant,"
    yield (
        f"With these seeds and their scatter a true difference of {size.replace(' pp', ' percentage points')} is found "
        "with 80% power at the corrected level."
    )


def _targets(summary: Summary) -> Iterator[str]:
    if not summary.targets or summary.only_looked_at:
        return
    every = summary.study.get("evaluate_every")
    gap = "after every epoch" if every == "epoch" else f"every {every} steps"
    evaluated = f", evaluated {gap}" if every else ""
    yield (
        f"The time to target ({'; '.join(map(target_text, summary.targets))}) is the first evaluation that reaches "
        f"it{evaluated}; a run that never does is censored at its last step, and speed-ups are geometric means over "
        "the seeds with which both variants reach it."
    )


def _outcomes(summary: Summary) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for variant in summary.trained:
        counts.update(variant.outcomes)
    total = counts.total()
    if summary.only_looked_at:
        return
    if counts["finished"] == total:
        yield f"All {total} runs finished." if total > 2 else f"{counted(total, 'run')} finished."
        return
    endings = listed(
        f"{count} {outcome if outcome in ('finished', 'crashed') else _ending(count, outcome)}"
        for outcome, count in counts.items()
        if count
    )
    yield f"Of {counted(total, 'planned run')}, {endings}; none was left out because of its result."


def _ending(count: int, outcome: str) -> str:
    return f"{'was' if count == 1 else 'were'} {outcome_text(outcome)}"
