"""Several studies together, in words."""

from __future__ import annotations

from collections.abc import Sequence

from bnbench.analysis.difference import VERDICTS
from bnbench.analysis.workloads import MIN_WORKLOADS, MeanSpeedUp, Standing, Workloads
from bnbench.reports.numbers import NOTHING, count_text, ratio_text, verdict_text, words


def workload_sentences(workloads: Workloads) -> list[str]:
    """One sentence per variant that is compared anywhere."""
    return [_sentence(workloads, name) for name in compared_variants(workloads)]


def compared_variants(workloads: Workloads) -> list[str]:
    """The variants that are not the baseline everywhere."""
    return [name for name in workloads.variants if workloads.compared(name)]


def common_baseline(workloads: Workloads) -> str:
    """The baseline, "" where the studies have different ones."""
    names = {standing.baseline for standing in workloads.standings}
    return names.pop() if len(names) == 1 else ""


def common_metric(workloads: Workloads) -> str:
    """The metric that is compared, "" where the studies have different ones."""
    metrics = {standing.comparison.metric for standing in workloads.standings if standing.comparison}
    return metrics.pop() if len(metrics) == 1 else ""


def reached_counts(standing: Standing) -> tuple[str, str]:
    """The numbers of runs that reached the target, of the variant and of its baseline: ("4 of 5", "5 of 5")."""
    if standing.speeds["steps"].gap == "no target":
        return NOTHING, NOTHING
    own = f"{standing.reached} of {standing.planned}"
    return own, f"{standing.base_reached} of {standing.base_planned}"


def _sentence(workloads: Workloads, name: str) -> str:
    compared = workloads.compared(name)
    metric = words(common_metric(workloads)) or "the primary metric of each"
    counts = workloads.verdicts(name)
    verdicts = ", ".join(
        f"{verdict_text(verdict)} on {counts[verdict]} ({', '.join(_where(compared, verdict))})"
        for verdict in (*VERDICTS, "no verdict")
        if counts[verdict]
    )
    studies = f"{len(compared)} workload{'s' * (len(compared) != 1)}"
    against = common_baseline(workloads) or "the baseline of each"
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
    """For example "mnist (missed: batch reached it with 3 of 5 runs, none with 5 of 5)"."""
    gap = standing.speeds["steps"].gap
    if gap != "missed":
        return f"{standing.workload} ({gap})"
    own, base = reached_counts(standing)
    return (
        f"{standing.workload} (missed: {standing.variant} reached it with {own} runs, "
        f"{standing.baseline} with {base})"
    )
