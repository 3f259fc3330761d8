"""Several studies side by side: the tables over workloads."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bnbench.analysis.convergence import Clock
from bnbench.analysis.difference import VERDICTS
from bnbench.analysis.ratios import RATIO_CLOCKS, Speed
from bnbench.analysis.workloads import MIN_WORKLOADS, MeanSpeedUp, Profile, Standing, Workloads
from bnbench.reports.numbers import NOTHING, difference_text, ratio_text, verdict_text, words
from bnbench.reports.sentences.workloads import (
    common_baseline,
    common_metric,
    compared_variants,
    reached_counts,
)
from bnbench.reports.tables.table import Table

#: The factors at which a profile is read; the JSON has every workload's own.
FACTORS = (1.0, 1.25, 1.5, 2.0, 4.0)


def difference_table(workloads: Workloads) -> Table:
    """Every difference on every workload.

    Baseline and metric stand in columns of their own only where the studies differ in them.
    """
    columns = {
        "variant": "l",
        "workload": "l",
        **({} if common_baseline(workloads) else {"against": "l"}),
        **({} if common_metric(workloads) else {"metric": "l"}),
        "difference [95% CI]": "r",
        "verdict": "l",
    }
    rows = []
    for name in compared_variants(workloads):
        here = {standing.workload: standing for standing in workloads.of(name)}
        for workload in workloads.names:
            cells = _difference_cells(name, workload, here.get(workload))
            rows.append(tuple(cells[column] for column in columns))
    caption = (
        "Final numbers, variant minus baseline, as each study has them (mean over its seeds, 95% interval; the verdict "
        "after its own Holm correction). Nothing is corrected or averaged over workloads here."
    )
    metric = words(common_metric(workloads)) or "the primary metric"
    title = f"Each workload: {metric} against {common_baseline(workloads) or 'its baseline'}"
    return Table(title, caption, tuple(columns), tuple(rows), "".join(columns.values()), judges=True)


def _difference_cells(name: str, workload: str, standing: Standing | None) -> dict[str, str]:
    difference = standing.comparison if standing else None
    verdict = "not in this study" if standing is None else "no verdict"
    if standing and standing.is_baseline:
        verdict = "is the baseline"
    return {
        "variant": name,
        "workload": workload,
        "against": standing.baseline if standing else NOTHING,
        "metric": words(difference.metric) if difference else NOTHING,
        "difference [95% CI]": difference_text(difference) if difference else NOTHING,
        "verdict": verdict_text(difference.verdict) if difference else verdict,
    }


def verdict_table(workloads: Workloads) -> Table:
    """The count of each verdict."""
    rows = []
    for name in compared_variants(workloads):
        counts = workloads.verdicts(name)
        elsewhere = len(workloads.names) - len(workloads.compared(name)) + counts["no verdict"]
        rows.append((name, *(str(counts[verdict]) for verdict in VERDICTS), str(elsewhere)))
    columns = ("variant", *map(verdict_text, VERDICTS), "not compared")
    caption = (
        "Number of workloads. the same: within the study's margin. pairs lost: to runs without a number. "
        "not compared: not in that study, or its baseline."
    )
    return Table("Verdicts over workloads", caption, columns, tuple(rows), "l" + "r" * (len(columns) - 1))


def speed_table(workloads: Workloads) -> Table:
    """Empty where no study has a target."""
    rows: list[tuple[str, ...]] = []
    for name in compared_variants(workloads):
        here = {standing.workload: standing for standing in workloads.of(name)}
        rows += [_speed_row(name, workload, here.get(workload)) for workload in workloads.names]
        means = [_mean_text(mean) for mean in workloads.means if mean.variant == name]
        rows.append((name, "geometric mean", "", "", *means))
    caption = (
        "The baseline's time to the study's target over the variant's: geometric mean over seeds, 95% paired t "
        "interval. reached, baseline: runs that reached it. missed: a run of the variant or the baseline did not reach "
        "it, so no ratio is given. geometric mean: over the k that have a ratio, of the n workloads on "
        f"which the variant is compared; from {MIN_WORKLOADS} on with the 95% t interval of the mean logarithm."
    )
    has_targets = any(speed.gap != "no target" for s in workloads.standings for speed in s.speeds.values())
    columns = ("variant", "workload", "reached", "baseline", "steps [95% CI]", "seconds [95% CI]")
    return Table("Speed-up on each workload", caption, columns, tuple(rows) if has_targets else (), "llrrrr")


def _speed_row(name: str, workload: str, standing: Standing | None) -> tuple[str, ...]:
    if standing is None or standing.is_baseline:
        return name, workload, NOTHING, NOTHING, NOTHING, NOTHING
    speeds = (_speed_text(standing.speeds[clock]) for clock in RATIO_CLOCKS)
    return name, workload, *reached_counts(standing), *speeds


def _speed_text(speed: Speed) -> str:
    return speed.gap or ratio_text(speed.ratio, speed.ratio_low, speed.ratio_high)


def _mean_text(mean: MeanSpeedUp) -> str:
    return f"{ratio_text(mean.ratio, mean.low, mean.high)} ({mean.n} of {mean.num_workloads})"


def profile_tables(workloads: Workloads) -> Iterator[Table]:
    """A performance profile for each clock."""
    return (_profile_table(workloads, clock) for clock in RATIO_CLOCKS)


def _profile_table(workloads: Workloads, clock: Clock) -> Table:
    profiles = [profile for profile in workloads.profiles if profile.clock == clock]
    caption = (
        f"The number of workloads on which the variant's time to the target, in {clock}, is at most this factor "
        "times the fastest variant's time (Dolan and Moré 2002). ever: the target was reached with every seed; a "
        "workload with a miss is in the count, and within no factor."
    )
    factors = [("fastest" if factor == 1 else f"{factor:g}x") for factor in FACTORS]
    rows = tuple((profile.variant, *_profile_cells(profile)) for profile in profiles)
    columns = ("variant", *factors, "ever")
    return Table(
        f"Performance profile: {clock} to the target", caption, columns, rows, "l" + "r" * (len(columns) - 1)
    )


def _profile_cells(profile: Profile) -> Iterator[str]:
    reached = sum(math.isfinite(tau) for tau in profile.taus)
    for count in (*(profile.within(factor) for factor in FACTORS), reached):
        yield f"{count} of {len(profile.taus)}"
