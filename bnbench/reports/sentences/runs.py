"""Sentences on the runs' outcomes: trained, crashed or missing."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.pairs import WITHOUT_NUMBER
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.rows import first_line
from bnbench.reports.numbers import metric_text, outcome_text, p_text, runs_text
from bnbench.study.records import MISSING, RunRecord

#: More reasons for a crash than this are counted.
MOST_FAILURES = 3


def lost_pairs(summary: Summary, difference: Difference) -> str:
    """Why pairs have no number, named by the runs that lost them.

    >>> lost_pairs(summary, difference)
    "2 of 5 runs of batch crashed and 1 of 5 runs of none is not finite"
    """
    reasons = [
        reason
        for label in (difference.label, difference.baseline_label)
        for reason in _failed(summary.labelled(label))
    ]
    if lost := difference.lost.get(WITHOUT_NUMBER):
        reasons.append(f"{lost} of {difference.n_planned} pairs {_is(lost)} without a number")
    return " and ".join(reasons)


def success_sentence(summary: Summary, difference: Difference) -> str:
    """How often both trained, where not every run did.

    >>> success_sentence(summary, difference)
    " batch trained in 5 of 5 runs, none in 0 of 5 (5 stuck at chance): Fisher's exact test, p 0.0079."
    """
    rates = (*summary.best_rates, *summary.rates)
    here = (difference.label, difference.baseline_label)
    own = next((rate for rate in rates if (rate.label, rate.against) == here), None)
    base = next((rate for rate in rates if rate.label == difference.baseline_label), None)
    if not own or not base or not own.n or not base.n:
        return ""
    if (own.trained, base.trained) == (own.n, base.n):
        return ""
    after = " after Holm's correction" if own.p_holm != own.p else ""
    test = f": Fisher's exact test, p {p_text(own.p_holm)}{after}" if own.p is not None else ""
    return f" {_trained(summary, own, 'runs')}, {_trained(summary, base, '')}{test}."


def absent_runs(summary: Summary, difference: Difference) -> Iterator[str]:
    """Runs of both sides that crashed or are missing, so that no mean hides them: " 2 of 5 runs of batch crashed.".

    Not those that the sentence before names as the reason for no verdict.
    """
    named = difference.verdict == "pairs_lost" or (not difference.n and difference.lost)
    for label in (difference.baseline_label, difference.label):
        for sentence in absent_runs_of(summary.labelled(label), crashed=not named):
            yield f" {sentence}"


def absent_runs_of(variant: VariantSummary | None, *, crashed: bool = True) -> Iterator[str]:
    """For example "2 of 5 runs of batch crashed." and "1 of 5 runs of batch is missing."."""
    for outcome in ("crashed", MISSING) if crashed else (MISSING,):
        count = variant.outcomes[outcome] if variant else 0
        if variant and count:
            verb = "crashed" if outcome == "crashed" else f"{_is(count)} missing"
            yield f"{count} of {runs_text(len(variant.seeds))} of {variant.label} {verb}."


def failure_sentences(summary: Summary) -> list[str]:
    """Why runs crashed, each reason once.

    >>> failure_sentences(summary)
    ["batch seeds 1, 2: ValueError: too small."]
    """
    seeds: dict[tuple[str, str], list[str]] = {}
    for variant in summary.trained:
        for run in variant.runs:
            if run.outcome == "crashed":
                seeds.setdefault((run.label, why_it_failed(run)), []).append(str(run.seed))
    lines = [
        f"{label} seed{'s' * (len(alike) > 1)} {', '.join(alike)}: {why.rstrip('.')}."
        for (label, why), alike in seeds.items()
    ]
    more = [f"{len(lines) - MOST_FAILURES} more failures: --tables failures."]
    return lines if len(lines) <= MOST_FAILURES else [*lines[:MOST_FAILURES], *more]


def why_it_failed(record: RunRecord) -> str:
    """One line on a run that did not finish: its error, or the numbers that say so."""
    if record.outcome == "finished":
        return ""
    if record.error:
        return first_line(record.error)
    if record.outcome == "not_finite":
        return f"loss or weights not finite, seen at step {record.steps} of {record.planned_steps}"
    early = [name for name in record.final if name.startswith("val_")]
    numbers = ", ".join(f"{name} {metric_text(name, record.final[name])}" for name in early[:2])
    first = record.history[0].metrics.get("val_loss") if record.history else None
    began = "" if first is None else f"; val_loss at the start {metric_text('val_loss', first)}"
    return f"ended with {numbers}{began}"


def _failed(variant: VariantSummary | None) -> Iterator[str]:
    for outcome in ("crashed", "not_finite"):
        count = variant.outcomes[outcome] if variant else 0
        if variant and count:
            verb = "crashed" if outcome == "crashed" else f"{_is(count)} not finite"
            yield f"{count} of {runs_text(len(variant.seeds))} of {variant.label} {verb}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _trained(summary: Summary, rate: TrainedRate, runs: str) -> str:
    """For example "batch trained in 3 of 5 runs (2 not finite)"."""
    variant = summary.labelled(rate.label)
    others = ", ".join(
        f"{count} {outcome_text(outcome)}"
        for outcome, count in (variant.outcomes if variant else {}).items()
        if count and outcome not in ("finished", "crashed", MISSING)
    )
    verb = " trained" if runs else ""
    text = f"{rate.label}{verb} in {rate.trained} of {runs_text(rate.n) if runs else rate.n}"
    return f"{text} ({others})" if others else text
