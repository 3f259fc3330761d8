"""Several studies side by side: the tables over workloads, and what they say in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bnbench.analysis.convergence import Clock
from bnbench.analysis.difference import VERDICTS
from bnbench.analysis.workloads import (
    MIN_WORKLOADS,
    RATIO_CLOCKS,
    MeanSpeedUp,
    Profile,
    Speed,
    Standing,
    Workloads,
)
from bnbench.reports.numbers import NOTHING, difference_text, ratio_text, verdict_text, words
from bnbench.reports.tables.table import Table, count_text

#: The factors at which a profile is read; the JSON has every workload's own.
FACTORS = (1.0, 1.25, 1.5, 2.0, 4.0)


def workload_tables(workloads: Workloads) -> list[Table]:
    """Every table that has something to show, in reading order."""
    found = [
        _difference_table(workloads),
        _verdict_table(workloads),
        _speed_table(workloads),
        *(_profile_table(workloads, clock) for clock in RATIO_CLOCKS),
    ]
    return [table for table in found if table.rows]


def workload_sentences(workloads: Workloads) -> list[str]:
    """One a variant that is compared anywhere."""
    return [_sentence(workloads, name) for name in _compared_variants(workloads)]


def _difference_table(workloads: Workloads) -> Table:
    """Baseline and metric stand in columns of their own only where the studies differ in them."""
    columns = {
        "variant": "l",
        "workload": "l",
        **({} if _common_baseline(workloads) else {"against": "l"}),
        **({} if _common_metric(workloads) else {"metric": "l"}),
        "difference [95% CI]": "r",
        "verdict": "l",
    }
    rows = []
    for name in _compared_variants(workloads):
        here = {standing.workload: standing for standing in workloads.of(name)}
        for workload in workloads.names:
            cells = _difference_cells(name, workload, here.get(workload))
            rows.append(tuple(cells[column] for column in columns))
    caption = (
        "Final numbers, variant minus baseline, as each study has them (mean over its seeds, 95% interval; the verdict "
        "after its own Holm correction). Nothing is corrected or averaged over workloads here."
    )
    metric = words(_common_metric(workloads)) or "the primary metric"
    title = f"Each workload: {metric} against {_common_baseline(workloads) or 'its baseline'}"
    return Table(title, caption, tuple(columns), tuple(rows), "".join(columns.values()))


def _difference_cells(name: str, workload: str, standing: Standing | None) -> dict[str, str]:
    found = standing.comparison if standing else None
    verdict = "not in this study" if standing is None else "no verdict"
    if standing and standing.is_baseline:
        verdict = "is the baseline"
    return {
        "variant": name,
        "workload": workload,
        "against": standing.baseline if standing else NOTHING,
        "metric": words(found.metric) if found else NOTHING,
        "difference [95% CI]": difference_text(found) if found else NOTHING,
        "verdict": verdict_text(found.verdict) if found else verdict,
    }


def _verdict_table(workloads: Workloads) -> Table:
    rows = []
    for name in _compared_variants(workloads):
        counts = workloads.verdicts(name)
        elsewhere = len(workloads.names) - len(workloads.compared(name)) + counts["no verdict"]
        rows.append((name, *(str(counts[verdict]) for verdict in VERDICTS), str(elsewhere)))
    columns = ("variant", *map(verdict_text, VERDICTS), "not compared")
    caption = (
        "On how many workloads. the same: within the study's margin. pairs lost: to runs without a number. "
        "not compared: not in that study, or its baseline."
    )
    return Table("Verdicts over workloads", caption, columns, tuple(rows), "l" + "r" * (len(columns) - 1))


def _speed_table(workloads: Workloads) -> Table:
    """Empty where no study has a target."""
    rows: list[tuple[str, ...]] = []
    for name in _compared_variants(workloads):
        here = {standing.workload: standing for standing in workloads.of(name)}
        rows += [_speed_row(name, workload, here.get(workload)) for workload in workloads.names]
        means = [_mean_text(mean) for mean in workloads.means if mean.variant == name]
        rows.append((name, "geometric mean", "", "", *means))
    caption = (
        "The baseline's time to the study's target over the variant's: geometric mean over seeds, 95% paired t "
        "interval. reached, baseline: runs that reached it. missed: some run of the two did not, so there is no ratio; "
        "a miss is never turned into a number. geometric mean: over the k that have a ratio, of the n workloads on "
        f"which the variant is compared; from {MIN_WORKLOADS} on with the 95% t interval of the mean logarithm."
    )
    has_targets = any(speed.gap != "no target" for s in workloads.standings for speed in s.speeds.values())
    columns = ("variant", "workload", "reached", "baseline", "steps [95% CI]", "seconds [95% CI]")
    return Table("Speed-up on each workload", caption, columns, tuple(rows) if has_targets else (), "llrrrr")


def _speed_row(name: str, workload: str, standing: Standing | None) -> tuple[str, ...]:
    if standing is None or standing.is_baseline:
        return name, workload, NOTHING, NOTHING, NOTHING, NOTHING
    speeds = (_speed_text(standing.speeds[clock]) for clock in RATIO_CLOCKS)
    return name, workload, *_counts(standing), *speeds


def _counts(standing: Standing) -> tuple[str, str]:
    if standing.speeds["steps"].gap == "no target":
        return NOTHING, NOTHING
    ours = f"{standing.reached} of {standing.planned}"
    return ours, f"{standing.base_reached} of {standing.base_planned}"


def _speed_text(speed: Speed) -> str:
    return speed.gap or ratio_text(speed.ratio, speed.ratio_low, speed.ratio_high)


def _mean_text(mean: MeanSpeedUp) -> str:
    return f"{ratio_text(mean.ratio, mean.low, mean.high)} ({mean.n} of {mean.num_workloads})"


def _profile_table(workloads: Workloads, clock: Clock) -> Table:
    profiles = [profile for profile in workloads.profiles if profile.clock == clock]
    caption = (
        f"On how many workloads the variant's time to the target, in {clock}, is at most so many times that of the "
        "workload's fastest variant (Dolan and Moré 2002). ever: the target was reached with every seed; a workload "
        "with a miss is in the count, and within no factor."
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


def _sentence(workloads: Workloads, name: str) -> str:
    compared = workloads.compared(name)
    metric = words(_common_metric(workloads)) or "the primary metric of each"
    counts = workloads.verdicts(name)
    verdicts = ", ".join(
        f"{verdict_text(verdict)} on {counts[verdict]} ({', '.join(_where(compared, verdict))})"
        for verdict in (*VERDICTS, "no verdict")
        if counts[verdict]
    )
    studies = f"{len(compared)} workload{'s' * (len(compared) != 1)}"
    against = _common_baseline(workloads) or "the baseline of each"
    speed = next((mean for mean in workloads.means if mean.variant == name and mean.clock == "steps"), None)
    return (
        f"{name} against {against} over {studies}, in {metric}: {verdicts}.{_speed_sentence(compared, speed)}"
    )


def _where(compared: Sequence[Standing], verdict: str) -> list[str]:
    return [
        standing.workload
        for standing in compared
        if ((standing.comparison and standing.comparison.verdict) or "no verdict") == verdict
    ]


def _speed_sentence(compared: Sequence[Standing], mean: MeanSpeedUp | None) -> str:
    if mean is None or (all(gap == "no target" for _, gap in mean.left_out) and mean.ratio is None):
        return ""
    over = f"{count_text(mean.n, mean.num_workloads)} workload{'s' * (mean.num_workloads != 1)}"
    if mean.ratio is None:
        sentence = " No workload has a speed-up to the target."
    else:
        ratio = ratio_text(mean.ratio, mean.low, mean.high).replace(" [", ", 95% interval [")
        few = f"; fewer than {MIN_WORKLOADS} give no interval" if mean.low is None else ""
        sentence = f" Speed-up in steps to the target {ratio}, geometric mean over {over}{few}."
    left_out = [_left_out(standing) for standing in compared if standing.speeds["steps"].gap]
    return sentence + (f" Left out: {', '.join(left_out)}." if left_out else "")


def _left_out(standing: Standing) -> str:
    """ "mnist (missed: batch reached it with 3 of 5 runs, none with 5 of 5)"."""
    gap = standing.speeds["steps"].gap
    if gap != "missed":
        return f"{standing.workload} ({gap})"
    ours, theirs = _counts(standing)
    return (
        f"{standing.workload} (missed: {standing.variant} reached it with {ours} runs, "
        f"{standing.baseline} with {theirs})"
    )


def _compared_variants(workloads: Workloads) -> list[str]:
    return [name for name in workloads.variants if workloads.compared(name)]


def _common_baseline(workloads: Workloads) -> str:
    """The baseline, "" where the studies have different ones."""
    names = {standing.baseline for standing in workloads.standings}
    return names.pop() if len(names) == 1 else ""


def _common_metric(workloads: Workloads) -> str:
    """The metric that is compared, "" where the studies have different ones."""
    metrics = {standing.comparison.metric for standing in workloads.standings if standing.comparison}
    return metrics.pop() if len(metrics) == 1 else ""
