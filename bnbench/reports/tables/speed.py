"""Tables of convergence: when a target was reached, how much sooner than by the baseline, the area under the curve."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.convergence import Reached, TargetSummary
from bnbench.analysis.pairs import Spread
from bnbench.analysis.speed import AreaComparison, SpeedComparison
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import (
    NOTHING,
    count_text,
    interval_text,
    number_interval,
    ratio_text,
    spread_text,
    target_text,
    words,
)
from bnbench.reports.tables.table import Table, baseline_first


def target_tables(summary: Summary) -> Iterator[Table]:
    """For each target, when the runs reached it. None of networks that were not trained."""
    for index in range(0 if summary.only_looked_at else len(summary.targets)):
        yield _target_table(summary, index)


def speed_up_tables(summary: Summary) -> Iterator[Table]:
    """For each target, how much sooner than the baseline. None of networks that were not trained."""
    for index in range(0 if summary.only_looked_at else len(summary.targets)):
        yield _speed_up_table(summary, index)


def _target_table(summary: Summary, index: int) -> Table:
    variants = baseline_first(summary, summary.trained)
    rows = [
        (variant.label, *_target_cells(variant, variant.targets[index], len(variant.seeds)))
        for variant in variants
    ]
    gaps = sorted(v.targets[index].evaluated_every or 0 for v in variants if v.targets[index].evaluated_every)
    every = f" Evaluated every {' or '.join(map(str, dict.fromkeys(gaps)))} steps." if gaps else ""
    circular = (
        f" The target is what {summary.baseline} reaches at the end, mean over its seeds (in a sweep at its best "
        f"setting): circular, as {summary.baseline} is measured by its own result and reaches it with about half "
        "of its seeds."
        if summary.targets[index].match_baseline
        else ""
    )
    caption = (
        "First evaluation that reached the target: Kaplan-Meier median over all runs (lowest to highest). A run that "
        f"never did, or did not finish, counts as later than any other; >N: not by step N.{every} Seconds: training "
        f"alone.{circular}"
    )
    title = f"Time to target: {target_text(summary.targets[index])}"
    return Table(title, caption, ("variant", "reached", "steps", "epochs", "seconds"), tuple(rows), "lrrrr")


def _target_cells(variant: VariantSummary, target: TargetSummary, planned: int) -> tuple[str, ...]:
    share = f"{target.k} of {target.n}{f' ({planned} planned)' if planned != target.n else ''}"
    if target.median_steps is None:
        never = f"not by step {target.budget}" if target.budget else NOTHING
        fastest = min((time.step for time in target.reached if time), default=None)
        steps = never if fastest is None else f"{never} ({fastest} to >{target.budget})"
        return share, steps, NOTHING, NOTHING
    steps = f"{target.median_steps:g} {_range(target, 'step', '.0f', f'>{target.budget}')}".strip()
    epochs = NOTHING if target.median_epochs is None else f"{target.median_epochs:.3g}"
    return share, steps, epochs, variant.seconds_refused or _seconds(target)


def _seconds(target: TargetSummary) -> str:
    if target.median_seconds is None:
        return NOTHING
    return f"{target.median_seconds:.2f} {_range(target, 'seconds', '.2f', 'never')}".strip()


def _range(target: TargetSummary, field: str, form: str, censored: str) -> str:
    """For example "(938 to 1876)", "(938 to >4690)" where a run never reached the target; "" where all are equal."""
    moments = [time for time in target.reached if isinstance(time, Reached)]
    times = [getattr(time, field) for time in moments]
    low, high = f"{min(times):{form}}", f"{max(times):{form}}" if target.k == target.n else censored
    return "" if low == high else f"({low} to {high})"


def _speed_up_table(summary: Summary, index: int) -> Table:
    target = summary.targets[index]
    speeds = [speed for speed in summary.speeds if speed.target == target and _is_known(speed)]
    reached = any(speed.difference is not None for speed in speeds)
    caption = (
        f"Variant minus {summary.baseline} (negative: faster), within the common budget: mean over seeds, a run that "
        "never reached it counting with the whole budget (restricted mean). speed-up: the baseline's time over the "
        "variant's, geometric mean over the seeds where both reached it; it says nothing about the others. 95% "
        "paired t intervals from three seeds on, no narrower than the gap between evaluations allows; not corrected."
    )
    columns = ("variant", "unit", "difference [95% CI]", "pairs", "speed-up [95% CI]", "both reached")
    rows = tuple(_speed_up_row(speed) for speed in speeds) if reached else ()
    return Table(f"Speed-up to target: {target_text(target)}", caption, columns, rows, "llrrrr")


def _is_known(speed: SpeedComparison) -> bool:
    """Not where the runs do not say how many samples an epoch has."""
    return speed.clock != "samples" or speed.budget is not None


def _speed_up_row(speed: SpeedComparison) -> tuple[str, ...]:
    difference = number_interval(speed.difference, speed.ci_low, speed.ci_high)
    ratio = ratio_text(speed.ratio, speed.ratio_low, speed.ratio_high)
    pairs = count_text(speed.n, speed.n_planned)
    return speed.label, speed.clock, speed.refused or difference, pairs, ratio, str(speed.n_both)


def area_tables(summary: Summary) -> Iterator[Table]:
    """For each metric of a target, the area under its curve."""
    for metric in dict.fromkeys(target.metric for target in summary.targets):
        place = next(i for i, target in enumerate(summary.targets) if target.metric == metric)
        areas = {area.label: area for area in summary.areas if area.metric == metric}
        percent = metric_of(metric).percent
        rows = []
        spreads = [(v, Spread.of(v.targets[place].areas)) for v in baseline_first(summary, summary.trained)]
        for variant, spread in spreads:
            text = spread_text(spread, len(variant.seeds), percent=percent)
            rows.append((variant.label, text, *_area_cells(areas.get(variant.label), percent)))
        caption = (
            f"Mean height of {metric} over the steps of a run: higher is {_better(metric)}, and no target has to be "
            f"chosen. difference: from {summary.baseline}, over the common steps, 95% paired t interval."
        )
        if any(spread.n < len(v.seeds) for v, spread in spreads):
            caption += " (k of n): only k of n runs have a finite value up to the last step; the others are left out."
        columns = ("variant", "area", "difference [95% CI]", "pairs")
        known = any(area == area for v in summary.trained for area in v.targets[place].areas)
        title = f"Area under the curve: {words(metric)}{' (%)' if percent else ''}"
        yield Table(title, caption, columns, tuple(rows) if known else (), "lrrr")


def _area_cells(area: AreaComparison | None, percent: bool) -> tuple[str, str]:
    if area is None:
        return NOTHING, NOTHING
    text = interval_text(area.difference, area.ci_low, area.ci_high, percent=percent)
    return text, count_text(area.n, area.n_planned)


def _better(metric: str) -> str:
    return "better" if metric_of(metric).better == "higher" else "worse"
