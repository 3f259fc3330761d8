"""A difference in words: both sides, how far they are apart, and how sure that is."""

from __future__ import annotations

import math

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import MIN_SEEDS
from bnbench.analysis.pairs import number
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import decimals_for, has_width, is_extreme, p_text, unit_of


def effect_text(summary: Summary, difference: Difference) -> str:
    """The effect with everything that a reader needs to weigh it.

    >>> effect_text(summary, difference)
    "97.8% → 99.1%, +1.2 points (95% interval 0.4 to 2.1, p 0.015, 5 seeds)"
    """
    levels = levels_text(summary, difference)
    asides = [*_interval(difference), *_p(difference), seeds_text(difference)]
    samples = ""
    if difference.new_low is not None and difference.new_high is not None and difference.n >= MIN_SEEDS:
        interval = range_text(difference, difference.new_low, difference.new_high)
        same = interval == interval_words(difference)
        samples = "; the same for new test samples" if same else f"; for new test samples as well: {interval}"
    change = change_text(difference)
    return f"{f'{levels}, ' if levels else ''}{change} ({', '.join(asides)}{samples})"


def change_text(difference: Difference) -> str:
    """For example "+1.2 points" of an accuracy, "-0.045" of a loss."""
    if difference.difference is None:
        return "no number"
    return points(brief(difference, difference.difference), difference)


def points(number: str, difference: Difference) -> str:
    """The number with its unit: points of a percentage, nothing for a loss."""
    return f"{number} points" if metric_of(difference.metric).percent else number


def range_text(difference: Difference, low: float, high: float) -> str:
    """For example "0.4 to 2.1", and "-0.5 to +2.1" where the ends differ in sign."""
    sign = "+" if low < 0 < high else "-"
    return f"{brief(difference, low, sign)} to {brief(difference, high, sign)}"


def interval_words(difference: Difference) -> str:
    """For example "0.4 to 2.1"; "" without an interval, and of two seeds, whose interval says nothing."""
    if difference.ci_low is None or difference.ci_high is None or difference.n < MIN_SEEDS:
        return ""
    if not has_width(difference.ci_low, difference.ci_high):
        return ""
    return range_text(difference, difference.ci_low, difference.ci_high)


def seeds_text(difference: Difference) -> str:
    """For example "5 seeds", or "4 of 5 seeds" where pairs are missing."""
    n, planned = difference.n, difference.n_planned
    return f"{n} seed{'s' * (n != 1)}" if n == planned else f"{n} of {planned} seeds"


def levels_text(summary: Summary, difference: Difference) -> str:
    """E.g. "97.8% → 99.1%": the baseline's mean and the variant's, over the seeds that are compared; "" without any."""
    levels = [_level(summary, label, difference) for label in (difference.baseline_label, difference.label)]
    texts = [_level_text(difference, level) for level in levels if level is not None]
    return " → ".join(texts) if len(texts) == 2 else ""


def brief(difference: Difference, value: float, sign: str = "+") -> str:
    """A number with the digits that a sentence needs: one or two of the interval's half width.

    As the Particle Data Group rounds: two digits where the half width begins with 1, 2 or 3, else one. No
    end of an interval is rounded to 0.
    """
    value *= 100 if metric_of(difference.metric).percent else 1
    if abs(value) < 1e-6 * max(1.0 if metric_of(difference.metric).percent else 0.0, _half_width(difference)):
        value = 0.0  # what rounding leaves of seeds that cancel
    if is_extreme(value):
        return f"{value:{sign}.1e}"
    decimals = decimals_of(difference)
    decimals = next((n for n in range(decimals, decimals + 3) if round(value, n)), decimals)
    text = f"{value:{sign}.{decimals}f}"
    return text if text.strip("+-0.") else text.replace("-", "+" if sign == "+" else "")


def decimals_of(difference: Difference) -> int:
    """The decimals of every number in a sentence about this difference."""
    percent = metric_of(difference.metric).percent
    scale, half = 100 if percent else 1, _half_width(difference)
    if not half:
        return decimals_for(None, percent)
    most = max(decimals_for(half, percent), 1 if percent else 2)
    fewest = most - 1 if float(f"{half:.1e}"[:3]) > 3.5 and most > 1 else most
    ends = [scale * (end or 0.0) for end in (difference.ci_low, difference.ci_high)]
    ends = [end for end in ends if abs(end) > 1e-3 * half]
    enough = (n for n in range(fewest, most + 3) if all(round(end, n) for end in ends))
    return next(enough, most)


def _half_width(difference: Difference) -> float:
    """The width of the interval in its display unit; 0 without an interval."""
    low, high = difference.ci_low, difference.ci_high
    if low is None or high is None or not has_width(low, high):
        return 0.0
    return (high - low) / 2 * (100 if metric_of(difference.metric).percent else 1)


def _level(summary: Summary, label: str, difference: Difference) -> float | None:
    variant = summary.labelled(label)
    seeds = {seed for seed, _ in difference.values}
    runs = [run for run in variant.runs if run.seed in seeds] if variant else []
    values = [number(run, difference.metric, difference.at) for run in runs]
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else None


def _level_text(difference: Difference, level: float) -> str:
    percent = metric_of(difference.metric).percent
    if is_extreme(level) and not percent:
        return f"{level:.2e}"
    decimals = decimals_of(difference)
    unit = unit_of(difference.metric).replace("pp", " points")
    return f"{100 * level:.{min(decimals, 2)}f}{unit}" if percent else f"{level:.{decimals}f}"


def _interval(difference: Difference) -> list[str]:
    words = interval_words(difference)
    return [f"95% interval {words}"] if words else []


def _p(difference: Difference) -> list[str]:
    """After Holm's correction where a verdict was asked for and there is anything to correct."""
    if difference.verdict in (None, "pairs_lost", "too_few_seeds") or difference.p_holm is None:
        return []
    if difference.p_holm >= 1 and not interval_words(difference):
        return []  # equal differences say nothing of chance
    name = "p" if difference.family == 1 else "Holm p"
    return [f"{name} {p_text(difference.p_holm)}"]
