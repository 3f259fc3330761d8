"""Tables of what became of the runs: costs, outcomes, rates, failures, and the noise under every number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.pairs import Spread
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.times import shares_time
from bnbench.base.metrics import metric_of, parted
from bnbench.reports.numbers import (
    NOTHING,
    outcome_text,
    p_text,
    parameters_text,
    share_text,
    time_text,
    words,
)
from bnbench.reports.sentences.runs import why_it_failed
from bnbench.reports.tables.table import Table, baseline_first
from bnbench.study.records import MISSING, OUTCOMES


def noise_table(summary: Summary) -> Table:
    """Empty where no folder says how many samples there were."""
    rows = [
        (
            floor.label,
            words(floor.metric),
            _noise(floor.metric, floor.seed_std),
            _noise(floor.metric, floor.sampling_error),
            NOTHING if floor.num_samples is None else f"{floor.num_samples:,}",
        )
        for floor in summary.noise
        if floor.n
    ]
    known = any(floor.num_samples for floor in summary.noise)
    of_shares = [parted(floor.metric)[1] == "accuracy" for floor in summary.noise]
    errors = " or ".join(
        text
        for text, said in (
            (
                "sampling error of a proportion measured on this many samples (binomial standard error)",
                any(of_shares),
            ),
            (
                "standard error of the mean over this many samples, such as the windows of a text",
                not all(of_shares),
            ),
        )
        if said
    )
    caption = (
        "seeds: standard deviation (n-1) of a run; the standard error of the mean is this divided by √n. samples: "
        f"{errors}; all seeds have the "
        "same samples, so more seeds do not reduce it (it largely cancels in differences between variants)."
    )
    columns = ("variant", "metric", "seeds", "samples", "number of samples")
    return Table(
        "Where the scatter comes from: seeds and samples",
        caption,
        columns,
        tuple(rows) if known else (),
        "llrrr",
    )


def _noise(metric: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{100 * value:.2f} pp" if metric_of(metric).percent else f"{value:.2g}"


def cost_table(summary: Summary) -> Table:
    """Parameters, time and outcomes."""
    variants = baseline_first(summary, summary.trained)
    outcomes = _observed_outcomes(variants)
    rows = [
        (
            variant.label,
            parameters_text(variant.num_parameters, variant.trained_parameters),
            variant.seconds_refused or milliseconds(variant),
            *(str(variant.outcomes[outcome]) for outcome in outcomes),
        )
        for variant in variants
    ]
    refused = (
        f' "on cuda, not cpu": no seconds are compared, because the runs used another device or number of threads '
        f"than those of {summary.baseline}."
        if any(variant.seconds_refused for variant in variants)
        else ""
    )
    caption = (
        f"ms per step: mean ± standard deviation (n-1) over seeds, training time alone. "
        f"{' '.join(_outcome_words(outcome, summary) for outcome in outcomes if outcome in OUTCOME_WORDS)}{refused}"
    )
    columns = ("variant", "parameters", "ms per step", *map(outcome_text, outcomes))
    return Table("Cost and outcomes", caption.strip(), columns, tuple(rows), "l" + "r" * (len(columns) - 1))


#: The definition of each outcome, for a table's caption.
OUTCOME_WORDS = {
    "stuck_at_chance": "stuck at chance: {chance}.",
    "worse_than_at_start": "worse than at the start: last validation loss over 5% above the first, "
    "{primary} at chance.",
    "not_finite": "not finite: NaN or infinity in a loss or in the weights.",
    "crashed": "crashed: ended by an error, without numbers.",
    MISSING: "missing: planned, not run yet.",
}


def _outcome_words(outcome: str, summary: Summary) -> str:
    task = summary.task
    return OUTCOME_WORDS[outcome].format(chance=task.chance, primary=task.primary.replace("_", " "))


def _observed_outcomes(variants: Sequence[VariantSummary]) -> list[str]:
    """The outcomes of at least one run, and always "finished"."""
    return [
        outcome
        for outcome in (*OUTCOMES, MISSING)
        if outcome == "finished" or any(variant.outcomes[outcome] for variant in variants)
    ]


def milliseconds(variant: VariantSummary, *, scatter: bool = True) -> str:
    """Training time per step, over the seeds; without ± where seeds share one measured time, or without scatter."""
    spread = Spread.of(1000 * seconds for seconds in variant.seconds_per_step.values)
    if not scatter or any(map(shares_time, variant.runs)):
        spread = replace(spread, std=None)  # equal shares of one time have no spread of their own
    return time_text(spread, len(variant.seeds))


def rates_table(summary: Summary) -> Table:
    """Empty where every run trained: then there is nothing to compare."""
    rates = sorted(summary.rates, key=lambda rate: rate.variant != summary.baseline)
    failed = any(rate.trained < rate.n for rate in rates)
    caption = (
        "trained: runs that finished, of those that did not crash; Wilson's 95% interval. p: Fisher's exact test "
        f"against {summary.baseline}, after Holm's correction. only: seeds with which only the variant, and only "
        f"{summary.baseline}, trained."
    )
    columns = ("variant", "trained", "share [95% CI]", "only variant", "only baseline", "p (Holm)")
    rows = tuple(_rate_row(rate) for rate in rates) if failed else ()
    return Table("Training success rate", caption, columns, rows, "lrrrrr")


def _rate_row(rate: TrainedRate) -> tuple[str, ...]:
    share = share_text(rate.trained / rate.n if rate.n else None, rate.low, rate.high)
    only = (rate.only_variant, rate.only_baseline)
    counts = (NOTHING if count is None else str(count) for count in only)
    return rate.label, f"{rate.trained} of {rate.n}", share, *counts, p_text(rate.p_holm)


def failure_table(summary: Summary) -> Table:
    """Every run that did not finish, with its reason."""
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for variant in baseline_first(summary, summary.trained):
        for run in variant.runs:
            if run.outcome != "finished":
                seeds.setdefault((run.label, outcome_text(run.outcome), why_it_failed(run)), []).append(
                    str(run.seed)
                )
    rows = [(label, ", ".join(numbers), outcome, why) for (label, outcome, why), numbers in seeds.items()]
    caption = "A run that did not finish keeps its finite numbers in the tables; one that crashed has none."
    return Table("Runs that failed", caption, ("variant", "seeds", "outcome", "why"), tuple(rows), "llll")
