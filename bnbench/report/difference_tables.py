"""Tables of how variants differ from the baseline in the end: the differences, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from bnbench.analysis.comparison import Comparison
from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.resampling import MIN_BOOTSTRAP, MIN_SIGN_FLIP
from bnbench.metrics import metric_of
from bnbench.report.numbers import (
    NOTHING,
    amount_text,
    difference_text,
    interval_text,
    margin_text,
    outcome_text,
    p_text,
    value_text,
    verdict_text,
    words,
)
from bnbench.report.table import Table, baseline_first, count_text, labels_of

#: The splits whose differences from the baseline are shown.
COMPARED_SPLITS = ("test", "val")


def difference_tables(summary: Summary) -> Iterator[Table]:
    """At the same setting, then (in a sweep) each at its best."""
    here = _shown(summary, summary.comparisons, COMPARED_SPLITS)
    swept = " at the same setting" if summary.best_settings else ""
    name = f"Difference from {summary.baseline}"
    yield from _tables(summary, f"{name}{swept}", here, "")
    best = [comparison for best in summary.best_settings for comparison in best.comparisons]
    remark = " Only test metrics: they had no part in the choice."
    # the primary metric is shown there too, wherever it comes from: the verdict is about it
    yield from _tables(summary, f"{name}, each at its best setting", _shown(summary, best, ("test",)), remark)


def _tables(summary: Summary, title: str, shown: Sequence[Comparison], remark: str) -> Iterator[Table]:
    yield Table(title, _caption(summary, shown) + remark, _COLUMNS, tuple(map(_row, shown)), "llrrrl")
    if any(found.n > 1 for found in shown):
        yield Table(
            f"Checks: {_lower(title)}", _CHECKS, _CHECK_COLUMNS, tuple(map(_checks, shown)), "llrrrrr"
        )
    margins = [found for found in shown if found.margin is not None]
    if margins:
        yield _equivalence_table(_lower(title), margins)


def _shown(summary: Summary, comparisons: Iterable[Comparison], splits: Sequence[str]) -> list[Comparison]:
    """Final numbers of these splits and of the primary metric, variant by variant."""
    order = list(
        dict.fromkeys([*(f"{split}_{name}" for split in splits for name in summary.metrics), summary.primary])
    )
    chosen = [found for found in comparisons if found.at == "final" and found.metric in order]
    labels = labels_of(chosen)
    return sorted(chosen, key=lambda found: (labels.index(found.label), order.index(found.metric)))


_COLUMNS = ("variant", "metric", "difference [95% CI]", "pairs", "p (Holm)", "verdict")


def _caption(summary: Summary, shown: Sequence[Comparison]) -> str:
    bootstrap = any(found.method == "bootstrap" for found in shown)
    method = f"paired t{f', or studentised bootstrap from {MIN_BOOTSTRAP} pairs on' if bootstrap else ''}"
    family = max((found.family for found in shown), default=1)
    correction = (
        f"The verdict rests on p after Holm's correction over the comparisons of a metric (up to {family}); "
        "the intervals are not corrected."
        if family > 1
        else "One comparison a metric: nothing to correct."
    )
    return (
        f"Final numbers, variant minus {summary.baseline}, mean over seeds and 95% interval ({method}); pp: "
        f"percentage points. pairs: seeds with a number on both sides. {correction}"
    )


def _row(found: Comparison) -> tuple[str, ...]:
    return (
        found.label,
        words(found.metric),
        difference_text(found),
        count_text(found.n, found.n_planned),
        p_text(found.p_holm if found.verdict != "too_few_seeds" else None),
        verdict_text(found.verdict),
    )


_CHECK_COLUMNS = ("variant", "metric", "Welch [95% CI]", "rho", "flip p", "detects", "needs")
_CHECKS = (
    "Welch: the interval as if runs were not paired; rho: correlation of the two sides over seeds (pairing pays "
    f"where it is well above 0). flip p: of the exact sign-flip test, from {MIN_SIGN_FLIP} pairs on, not corrected; "
    "(!) where it and the uncorrected p of the verdict lie on different sides of 5%. detects: the smallest true "
    "difference that so many seeds find with 80% power. needs: so many seeds find the difference that was seen."
)


def _checks(found: Comparison) -> tuple[str, ...]:
    percent = metric_of(found.metric).percent
    welch = interval_text(None, found.welch_low, found.welch_high, percent=percent).removesuffix(" pp")
    needed = NOTHING if found.needed is None else f"{found.needed:,}"
    return (
        found.label,
        words(found.metric),
        welch,
        NOTHING if found.rho is None else f"{found.rho:+.2f}",
        f"{p_text(found.sign_flip_p)}{' (!)' if found.checks_disagree else ''}",
        NOTHING if found.detectable is None else amount_text(found, found.detectable, sign=""),
        needed,
    )


def _equivalence_table(title: str, found: Sequence[Comparison]) -> Table:
    caption = (
        "The study's margin: a difference within it counts as none. It is the same where the 90% paired t interval "
        "lies inside (two one-sided tests at 5%; p after Holm's correction)."
    )
    rows = [
        (
            comparison.label,
            words(comparison.metric),
            margin_text(comparison),
            interval_text(
                None,
                comparison.inner_low,
                comparison.inner_high,
                percent=metric_of(comparison.metric).percent,
            ),
            p_text(comparison.margin_p),
            "yes" if comparison.verdict == "same" else "not shown",
        )
        for comparison in found
    ]
    columns = ("variant", "metric", "margin", "90% CI", "p (Holm)", "the same")
    return Table(f"Equivalence: {title}", caption, columns, tuple(rows), "llrrrl")


def seeds_table(summary: Summary) -> Table:
    """The final primary metric of every seed: what stands behind each mean."""
    rows = tuple((variant.label, _values(variant, summary.primary)) for variant in baseline_first(summary))
    unit = " (%)" if metric_of(summary.primary).percent else ""
    caption = (
        "seed: value, after the last step. The same seed has the same data order and, in shared layers, the same "
        "initial weights."
    )
    title = f"Every seed: final {words(summary.primary)}{unit}"
    return Table(title, caption, ("variant", "seed: value"), rows, "ll")


def _values(variant: VariantSummary, metric: str) -> str:
    runs = {run.seed: run for run in variant.runs}
    shown = []
    for seed in variant.seeds:
        value = runs[seed].final.get(metric, math.nan) if seed in runs else math.nan
        outcome = runs[seed].outcome if seed in runs else "missing"
        shown.append(
            f"{seed}: {value_text(metric, value) if math.isfinite(value) else outcome_text(outcome)}"
        )
    return ", ".join(shown)


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]
