"""Tables of how variants differ from the baseline in the end: the differences, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.resampling import MIN_BOOTSTRAP, MIN_SIGN_FLIP
from bnbench.base.metrics import SPLITS, metric_of, value_of
from bnbench.reports.numbers import (
    NOTHING,
    amount_text,
    count_text,
    detectable_range,
    difference_text,
    interval_text,
    largest_difference,
    margin_text,
    new_samples_text,
    outcome_text,
    p_text,
    share_text,
    value_text,
    verdict_text,
    with_unit,
    words,
)
from bnbench.reports.sentences.inference import line_words
from bnbench.reports.tables.metrics import gap_words, unmeasured, unmeasured_words
from bnbench.reports.tables.sweeps import choice_words
from bnbench.reports.tables.table import Table, baseline_first, labels_of
from bnbench.study.records import RunRecord

#: The splits whose differences from the baseline the tables list.
COMPARED_SPLITS = ("test", "val")


def difference_tables(summary: Summary) -> Iterator[Table]:
    """At the same setting, then (in a sweep) each at its best."""
    for group in _groups(summary):
        caption = _caption(summary, group.differences) + group.remark
        yield _difference_table(group.title, caption, group.differences)


def robustness_tables(summary: Summary) -> Iterator[Table]:
    """The same differences by other methods, and the smallest difference that the seeds detect."""
    for group in _groups(summary):
        if any(difference.n > 1 for difference in group.differences):
            yield _robustness_table(f"Robustness checks: {_lower(group.title)}", group.differences)


def equivalence_tables(summary: Summary) -> Iterator[Table]:
    """Against the study's margin."""
    for group in _groups(summary):
        margins = [difference for difference in group.differences if difference.margin is not None]
        if margins:
            yield _equivalence_table(_lower(group.title), margins)


@dataclass(frozen=True)
class _Group:
    """Differences that share a table. remark: what else its caption says."""

    title: str
    differences: Sequence[Difference]
    remark: str = ""


def _groups(summary: Summary) -> Iterator[_Group]:
    name = f"Difference from {summary.baseline}"
    swept = " at the same setting" if summary.best_settings else ""
    further = tuple(part for part in summary.parts if part not in SPLITS)
    yield _Group(f"{name}{swept}", _selected(summary, summary.comparisons, (*COMPARED_SPLITS, *further)))
    # this group includes the primary metric of any split, because the verdict is about it
    best = _selected(summary, summary.best_comparisons, ("test", *further))
    remark = f" {choice_words(summary)}" if summary.best_settings else ""
    yield _Group(f"{name}, each at its best setting", best, remark)


def _selected(summary: Summary, comparisons: Iterable[Difference], splits: Sequence[str]) -> list[Difference]:
    """Final numbers of these splits and of the primary metric, variant by variant."""
    order = list(
        dict.fromkeys([*(f"{split}_{name}" for split in splits for name in summary.metrics), summary.primary])
    )
    nowhere = set(unmeasured(summary)) - {summary.primary}
    chosen = [
        difference
        for difference in comparisons
        if difference.at == "final" and difference.metric in order and difference.metric not in nowhere
    ]
    labels = labels_of(chosen)
    return sorted(
        chosen, key=lambda difference: (labels.index(difference.label), order.index(difference.metric))
    )


def _caption(summary: Summary, differences: Sequence[Difference]) -> str:
    bootstrap = any(difference.method == "bootstrap" for difference in differences)
    method = f"paired t{f', or studentised bootstrap from {MIN_BOOTSTRAP} pairs on' if bootstrap else ''}"
    family = max((difference.family for difference in differences if difference.verdict), default=1)
    correction = (
        f"p after Holm's correction over {family} comparisons; the intervals are not corrected"
        if family > 1
        else "a single comparison needs no correction"
    )
    samples = (
        " new samples: the interval for new test samples from the same source as well."
        if any(difference.new_low is not None for difference in differences)
        else ""
    )
    fixed = "these" if "split" in summary.vary else "this split and these"
    return (
        f"Final numbers, variant minus {summary.baseline}: mean over seeds and 95% interval ({method}) for new seeds, "
        f"on {fixed} samples, at these settings; pp: percentage points.{samples} pairs: seeds with a "
        f"number on both sides. verdict: for the primary metric, {words(summary.primary)}, alone ({correction}); the "
        f"other metrics have intervals.{unmeasured_words(summary)}{gap_words(summary.parts)} "
        f"{line_words(summary)}".rstrip()
    )


def _difference_table(title: str, caption: str, differences: Sequence[Difference]) -> Table:
    """With a column for new samples where there is such an interval."""
    columns: dict[str, tuple[str, Callable[[Difference], str]]] = {
        "variant": ("l", lambda difference: difference.label),
        "metric": ("l", lambda difference: words(difference.metric)),
        "difference [95% CI]": ("r", difference_text),
        **(
            {"new samples": ("r", new_samples_text)}
            if any(c.new_low is not None for c in differences)
            else {}
        ),
        "pairs": ("r", lambda difference: count_text(difference.n, difference.n_planned)),
        "p (Holm)": ("r", lambda difference: p_text(difference.p_holm)),
        "verdict": ("l", lambda difference: verdict_text(difference.verdict)),
    }
    rows = tuple(tuple(cell(difference) for _, cell in columns.values()) for difference in differences)
    return Table(
        title, caption, tuple(columns), rows, "".join(side for side, _ in columns.values()), judges=True
    )


_CHECKS = (
    "Welch: the interval as if runs were not paired. seed correlation: of the two sides over seeds (pairing pays where "
    f"it is well above 0). sign-flip p: exact test, from {MIN_SIGN_FLIP} pairs on, not corrected; (!) where it and the "
    "uncorrected p of the verdict lie on different sides of 5%. better: share of the seeds with which the variant is "
    "better (a tie counts one half), with Wilson's interval: the probability for a new seed. smallest detectable: the "
    "true difference that 4 of 5 studies with these seeds and scatter would detect (in brackets, its own 95% interval)."
)
_MARGIN_SEEDS = (
    " seeds for the margin: needed to detect a true difference as large as the margin (80% power)."
)


def _robustness_table(title: str, differences: Sequence[Difference]) -> Table:
    margin = any(difference.margin is not None for difference in differences)
    last = ("seeds for the margin",) if margin else ()
    columns = (
        "variant",
        "metric",
        "Welch [95% CI]",
        "seed correlation",
        "sign-flip p",
        "better [95% CI]",
        "smallest detectable",
        *last,
    )
    rows = tuple(_checks(difference, margin) for difference in differences)
    return Table(title, _CHECKS + _MARGIN_SEEDS * margin, columns, rows, "ll" + "r" * (len(columns) - 2))


def _checks(difference: Difference, margin: bool) -> tuple[str, ...]:
    percent = metric_of(difference.metric).percent
    welch = interval_text(None, difference.welch_low, difference.welch_high, percent=percent).removesuffix(
        " pp"
    )
    return (
        difference.label,
        words(difference.metric),
        welch,
        NOTHING if difference.rho is None else f"{difference.rho:+.2f}",
        f"{p_text(difference.sign_flip_p)}{' (!)' if difference.checks_disagree else ''}",
        share_text(difference.better_share, difference.better_low, difference.better_high),
        _smallest_detectable(difference),
        *(
            (NOTHING if difference.seeds_for_margin is None else f"{difference.seeds_for_margin:,}",)
            if margin
            else ()
        ),
    )


def _smallest_detectable(difference: Difference) -> str:
    """For example "1.4 pp (0.8 to 3.9)"; none where no metric can differ so much."""
    if not difference.detectable or difference.detectable_low is None or difference.detectable_high is None:
        return NOTHING
    if difference.detectable > largest_difference(difference):
        return "none"
    typical = amount_text(difference, difference.detectable, sign="")
    return f"{typical} ({detectable_range(difference).replace(' pp', '')})"


def _equivalence_table(title: str, differences: Sequence[Difference]) -> Table:
    caption = (
        "margin: of the study; a smaller difference counts as none. The two are the same where the 90% paired t "
        "interval lies inside the margin (two one-sided tests at 5%; p after Holm's correction)."
    )
    rows = [
        (
            comparison.label,
            words(comparison.metric),
            margin_text(comparison).replace(" points", " pp"),
            interval_text(
                None,
                comparison.inner_low,
                comparison.inner_high,
                percent=metric_of(comparison.metric).percent,
            ),
            p_text(comparison.margin_p),
            _the_same(comparison),
        )
        for comparison in differences
    ]
    columns = ("variant", "metric", "margin", "90% CI", "p (Holm)", "the same")
    return Table(f"Equivalence: {title}", caption, columns, tuple(rows), "llrrrl")


def _the_same(comparison: Difference) -> str:
    """Of the primary metric alone, as any verdict."""
    if comparison.verdict is None:
        return NOTHING
    return "yes" if comparison.verdict == "same" else "not shown"


def seeds_table(summary: Summary) -> Table:
    """The final primary metric of every seed: what stands behind each mean."""
    rows = tuple((variant.label, _values(variant, summary.primary)) for variant in baseline_first(summary))
    caption = (
        "seed: value, after the last step. The same seed has the same data order and, in shared layers, the same "
        "initial weights."
    )
    title = f"Every seed: final {with_unit(summary.primary)}"
    return Table(title, caption, ("variant", "seed: value"), rows, "ll")


def _values(variant: VariantSummary, metric: str) -> str:
    runs = {run.seed: run for run in variant.runs}
    values = []
    for seed in variant.seeds:
        value = value_of(runs[seed].final, metric) if seed in runs else math.nan
        values.append(
            f"{seed}: {value_text(metric, value) if math.isfinite(value) else _why_none(runs.get(seed))}"
        )
    return ", ".join(values)


def _why_none(run: RunRecord | None) -> str:
    """In place of a number: what became of the run; one that finished has none where there was nothing to measure."""
    if run is None:
        return "missing"
    return "no number" if run.outcome == "finished" else outcome_text(run.outcome)


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]
