"""The tables of a study as plain text cells. Console and exports draw them; none computes a number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bnbench.analysis.comparison import PHASES, Comparison, Spread
from bnbench.analysis.convergence import Reached, TargetSummary
from bnbench.analysis.plain import first_line
from bnbench.analysis.summary import Summary, VariantSummary
from bnbench.metrics import METRICS, SPLITS
from bnbench.plan import RunRecord
from bnbench.report.numbers import (
    NOTHING,
    amount_text,
    difference_text,
    metric_text,
    spread_text,
    target_text,
    words,
)

#: The splits whose differences from the baseline are shown.
COMPARED_SPLITS = ("test", "val")
PHASE_WORDS = {"final": "final", "best": "best val"}


@dataclass(frozen=True)
class Table:
    """A title, a caption that says what the numbers are, and rows of finished text.

    align: "l" for a column of words, "r" for one of numbers.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str


def tables(summary: Summary) -> list[Table]:
    """Every table that has something to show, in reading order."""
    found = [_metric_table(summary, name) for name in METRICS]
    found += _difference_tables(summary)
    found += [_convergence_table(summary, index) for index in range(len(summary.targets))]
    found.append(_cost_table(summary))
    found.append(_failure_table(summary))
    return [table for table in found if table.rows]


def layer_lists(summary: Summary) -> Table:
    """The layers of every variant as they were built; variants with the same layers share a list."""
    lists: dict[tuple[str, ...], list[str]] = {}
    for variant in baseline_first(summary):
        lists.setdefault(variant.layers, []).append(variant.label)
    unknown = ("not known: no run got as far as building it",)
    rows = [(", ".join(labels), line) for layers, labels in lists.items() for line in layers or unknown]
    return Table("Layers", "As built, in the order of the model.", ("variant", "layer"), tuple(rows), "ll")


def baseline_first(summary: Summary) -> list[VariantSummary]:
    """The baseline's rows, then the others, each in the study's order."""
    return sorted(summary.variants, key=lambda variant: variant.variant != summary.baseline)


def why_it_failed(record: RunRecord) -> str:
    """One line on a run that did not finish: its error, or what made it count as diverged."""
    if record.outcome == "finished":
        return ""
    if record.error:
        return first_line(record.error)
    val_loss = record.final.get("val_loss", math.nan)
    if not math.isfinite(val_loss) or record.steps < record.planned_steps:
        return f"loss not finite, seen at step {record.steps} of {record.planned_steps}"
    shown = ", ".join(
        f"{name} {metric_text(name, value)}"
        for name, value in record.final.items()
        if name.startswith("val_")
    )
    return f"ended no better than chance ({shown})"


def _metric_table(summary: Summary, name: str) -> Table:
    percent = METRICS[name].percent
    rows = [
        (
            variant.label,
            PHASE_WORDS[at],
            *(
                spread_text(variant.spreads[at, f"{split}_{name}"], len(variant.seeds), percent=percent)
                for split in SPLITS
            ),
        )
        for variant in baseline_first(summary)
        for at in PHASES
    ]
    caption = (
        f"{_seeds_caption(summary)} final: after the last step. "
        f"best val: at the evaluation with the lowest validation loss. {METRICS[name].better.capitalize()} is better."
    )
    title = f"{name.capitalize()}{' (%)' if percent else ''}"
    return Table(title, caption, ("variant", "at", *SPLITS), tuple(rows), "ll" + "r" * len(SPLITS))


def _seeds_caption(summary: Summary) -> str:
    """What ± is, over what, and what "(4 of 5)" means where it stands in the table."""
    planned = sorted({len(variant.seeds) for variant in summary.variants})
    count = " or ".join(map(str, planned))
    if planned == [1]:
        return "One seed: no ± can be given."
    text = f"Mean ± standard deviation (n-1) over {count} seeds."
    if any(s.n != len(variant.seeds) for variant in summary.variants for s in variant.spreads.values()):
        text += (
            " (k of n): only k of n runs have a finite number; the tables below say what became of the rest."
        )
    return text


def _difference_tables(summary: Summary) -> Iterator[Table]:
    caption = (
        f"Final numbers, variant minus {summary.baseline}, mean over seeds and 95% paired t interval, not corrected "
        "for the number of rows; pp: percentage points. pairs: seeds with a number on both sides. detectable: the "
        "smallest true difference that so many seeds find with 80% power."
    )
    swept = " at the same setting" if summary.best_settings else ""
    rows = _difference_rows(summary.comparisons, COMPARED_SPLITS)
    yield _difference_table(f"Difference from {summary.baseline}{swept}", caption, rows)
    if summary.best_settings:
        settings = [
            (best.label, spread_text(best.val_loss, best.val_loss.n)) for best in summary.best_settings
        ]
        yield Table("Best settings", _BEST_CAPTION, ("variant", "final val loss"), tuple(settings), "lr")
    best = [comparison for best in summary.best_settings for comparison in best.comparisons]
    title = f"Difference from {summary.baseline}, each at its best setting"
    yield _difference_table(
        title,
        f"{caption} Only test metrics: they had no part in the choice.",
        _difference_rows(best, ("test",)),
    )


_BEST_CAPTION = (
    "The setting with the lowest mean final val_loss over seeds; one where a run failed or is missing comes after "
    "those without. Chosen on validation data."
)


def _difference_table(title: str, caption: str, rows: Iterator[tuple[str, ...]]) -> Table:
    columns = ("variant", "metric", "difference [95% CI]", "pairs", "verdict", "detectable")
    return Table(title, caption, columns, tuple(rows), "llrrlr")


def _difference_rows(comparisons: Sequence[Comparison], splits: Sequence[str]) -> Iterator[tuple[str, ...]]:
    shown = [f"{split}_{name}" for split in splits for name in METRICS]
    chosen = [found for found in comparisons if found.at == "final" and found.metric in shown]
    for found in sorted(chosen, key=lambda comparison: _labels(chosen).index(comparison.label)):
        yield (
            found.label,
            words(found.metric),
            difference_text(found),
            str(found.n) if found.n == found.n_planned else f"{found.n} of {found.n_planned}",
            found.verdict,
            NOTHING if found.detectable is None else amount_text(found, found.detectable, sign=""),
        )


def _labels(comparisons: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys(comparison.label for comparison in comparisons))


def _convergence_table(summary: Summary, index: int) -> Table:
    rows = [
        (variant.label, *_convergence_cells(variant.targets[index], len(variant.seeds)))
        for variant in baseline_first(summary)
    ]
    gaps = {variant.targets[index].evaluated_every for variant in summary.variants} - {None}
    every = (
        f" Evaluated every {' or '.join(map(str, sorted(map(int, filter(None, gaps)))))} steps."
        if gaps
        else ""
    )
    caption = (
        "First evaluation that reached the target: median over all runs (lowest to highest). A run that never did, "
        f"diverged or crashed counts as later than any other; >N: not by step N.{every} Seconds: training alone."
    )
    columns = ("variant", "reached", "steps", "epochs", "seconds")
    return Table(
        f"Convergence speed: {target_text(summary.targets[index])}", caption, columns, tuple(rows), "lrrrr"
    )


def _convergence_cells(target: TargetSummary, planned: int) -> tuple[str, ...]:
    share = f"{target.k} of {target.n}{f' ({planned} planned)' if planned != target.n else ''}"
    if target.median_steps is None:
        never = f"not by step {target.budget}" if target.budget else NOTHING
        fastest = min((time.step for time in target.reached if time), default=None)
        return (
            share,
            never if fastest is None else f"{never} ({fastest} to >{target.budget})",
            NOTHING,
            NOTHING,
        )
    return (
        share,
        f"{target.median_steps:g} {_range(target, 'step', '.0f', f'>{target.budget}')}".strip(),
        f"{target.median_epochs:.3g}",
        f"{target.median_seconds:.2f} {_range(target, 'seconds', '.2f', 'never')}".strip(),
    )


def _range(target: TargetSummary, field: str, form: str, censored: str) -> str:
    """ "(938 to 1876)", "(938 to >4690)" where a run never reached the target; "" where all are equal."""
    times = [getattr(time, field) for time in target.reached if isinstance(time, Reached)]
    low, high = f"{min(times):{form}}", f"{max(times):{form}}" if target.k == target.n else censored
    return "" if low == high else f"({low} to {high})"


def _cost_table(summary: Summary) -> Table:
    rows = [
        (
            variant.label,
            NOTHING if variant.num_parameters is None else f"{variant.num_parameters:,}",
            _milliseconds(variant),
            *(str(count) for count in (variant.finished, variant.diverged, variant.crashed, variant.missing)),
        )
        for variant in baseline_first(summary)
    ]
    caption = (
        "ms a step: mean ± standard deviation (n-1) over seeds, training time alone. diverged: loss not finite, "
        "or no better than chance at the end. missing: planned, not run yet."
    )
    columns = ("variant", "parameters", "ms a step", "finished", "diverged", "crashed", "missing")
    return Table("Cost and outcomes", caption, columns, tuple(rows), "lrrrrrr")


def _milliseconds(variant: VariantSummary) -> str:
    spread = Spread.of(1000 * seconds for seconds in variant.seconds_per_step.values)
    return spread_text(spread, len(variant.seeds))


def _failure_table(summary: Summary) -> Table:
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for variant in baseline_first(summary):
        for run in variant.runs:
            if run.outcome != "finished":
                seeds.setdefault((run.label, run.outcome, why_it_failed(run)), []).append(str(run.seed))
    rows = [(label, ", ".join(found), outcome, why) for (label, outcome, why), found in seeds.items()]
    caption = "A run that diverged keeps its finite numbers in the tables; one that crashed has none."
    return Table("Runs that failed", caption, ("variant", "seeds", "outcome", "why"), tuple(rows), "llll")
