"""Sentences on a variant's time to the target."""

from __future__ import annotations

import math

from bnbench.analysis.contents import Summary
from bnbench.analysis.speed import SpeedComparison
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import count_text, factor_text, runs_text, words
from bnbench.study import Target


def speed_sentences(summary: Summary) -> list[str]:
    """One sentence per variant and target, without a verdict: targets and clocks are not corrected for.

    None in a sweep, whose tables have every setting.

    >>> speed_sentences(summary)[0]
    "batch reached 93% val accuracy in 5 of 5 runs (none: 5 of 5 runs): 3.0 times sooner (95% interval 1.8 to 4.8),
    in steps, over the 5 seeds where both did."
    """
    return [_sentence(speed, summary, index) for index, speed in _in_steps(summary)]


def sooner_clause(summary: Summary, label: str) -> str:
    """The speed-up to the first target, to follow a verdict; "" where no run reached it.

    >>> sooner_clause(summary, "batch")
    " It reaches 93% val accuracy 3.0 times sooner (1.8 to 4.8, in steps)."
    """
    speed = next((s for index, s in _in_steps(summary) if index == 0 and s.label == label), None)
    if speed is None or speed.target.match_baseline:
        return ""
    variant = summary.labelled(label)
    base = next((v for v in summary.variants if v.variant == speed.baseline), None)
    own = variant.targets[0] if variant else None
    other = base.targets[0] if base else None
    if not own or not other or not own.k + other.k:
        return ""
    goal = goal_text(speed.target)
    if own.k < own.n or other.k < other.n:
        reached = f"{other.k} of {other.n} of {speed.baseline}"
        return f" {own.k} of {runs_text(own.n)} of {label} reached {goal}, {reached}."
    return f" It reaches {goal} {_sooner(speed)}." if speed.ratio else ""


def goal_text(target: Target) -> str:
    """For example "93% val accuracy", "a val loss of 0.1"."""
    name = words(target.metric)
    matched = " (match_baseline)" if target.match_baseline else ""
    if math.isnan(target.value):
        return f"an unknown {name}{matched}"
    if metric_of(target.metric).percent:
        return f"{100 * target.value:.6g}% {name}{matched}"
    return f"a {name} of {target.value:.6g}{matched}"


def _in_steps(summary: Summary) -> list[tuple[int, SpeedComparison]]:
    if summary.best_settings or summary.only_looked_at:
        return []
    return [
        (index, speed)
        for index, target in enumerate(summary.targets)
        for speed in summary.speeds
        if speed.target == target and speed.clock == "steps"
    ]


def _sooner(speed: SpeedComparison) -> str:
    """E.g. "3.0 times sooner (95% interval 1.8 to 4.8, in steps)", "1.5 times later (…)", "about as soon (…)"."""
    ratio, low, high = speed.ratio or 1.0, speed.ratio_low, speed.ratio_high
    if low is not None and high is not None and low <= 1 <= high:
        interval = f"95% interval {factor_text(low)} to {factor_text(high)}"
        return f"about as soon (speed-up {factor_text(ratio)}, {interval}, in steps)"
    word = "sooner" if ratio > 1 else "later"
    if ratio < 1:
        ratio, low, high = 1 / ratio, high and 1 / high, low and 1 / low
    interval = (
        "" if low is None or high is None else f"95% interval {factor_text(low)} to {factor_text(high)}, "
    )
    return f"{factor_text(ratio)} times {word} ({interval}in steps)" if ratio != 1 else "after as many steps"


def _sentence(speed: SpeedComparison, summary: Summary, index: int) -> str:
    own, base = (_reached(summary, speed, name, index) for name in (speed.variant, speed.baseline))
    head = f"{speed.label} reached {goal_text(speed.target)} in {own} ({speed.baseline}: {base})"
    if speed.ratio is None:
        return f"{head}: no speed-up can be given."
    seeds = f"{count_text(speed.n_both, speed.n_planned)} seed{'s' * (speed.n_planned != 1)}"
    return f"{head}: {_sooner(speed)}, over the {seeds} where both did."


def _reached(summary: Summary, speed: SpeedComparison, name: str, index: int) -> str:
    """For example "4 of 5 runs"."""
    variants = (variant for variant in summary.variants if variant.variant == name)
    variant = next(variant for variant in variants if variant.setting == speed.setting)
    target = variant.targets[index]
    return f"{target.k} of {runs_text(target.n)}" if target.n else "no run yet"
