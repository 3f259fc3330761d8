"""Numbers as text, with as many digits as their scatter allows. Every output takes them from here."""

from __future__ import annotations

import math

from bnbench.analysis.difference import Difference
from bnbench.analysis.pairs import Spread
from bnbench.base.metrics import GAPS, metric_of, parted
from bnbench.base.words import ENGLISH, metric_in
from bnbench.study import Target

#: Decimals where no scatter says how many there should be.
LOSS_DECIMALS, PERCENT_DECIMALS = 4, 2
MAX_DECIMALS = 6
NOTHING = "–"
_LEAST_POINTS = 1e-6


def parameters_text(number: int | None, trained: int | None) -> str:
    """For example "9,610", or "9,610 (650 trained)" where not all of them learn."""
    if number is None:
        return NOTHING
    return f"{number:,}" if trained is None else f"{number:,} ({trained:,} trained)"


def spread_text(spread: Spread, planned: int, *, percent: bool = False) -> str:
    """For example "0.412 ± 0.010", with " (4 of 5)" where runs are missing from it; std to two digits."""
    scale = 100 if percent else 1
    lost = f" ({spread.n} of {planned})" if spread.n != planned else ""
    if spread.mean is None:
        return f"{NOTHING}{lost}"
    known = spread.std is not None and math.isfinite(spread.std)
    mean, std = scale * spread.mean, scale * spread.std if known and spread.std is not None else None
    if is_extreme(mean):
        return f"{mean:.2e}{'' if std is None else f' ± {std:.1e}'}{lost}"
    decimals = decimals_for(std, percent)
    number = f"{mean:.{decimals}f}"
    if std is None:
        return f"{number}{lost}"
    too_small = std > 0 and float(f"{std:.{decimals}f}") == 0
    return f"{number} ± {f'{std:.0e}' if too_small else f'{std:.{decimals}f}'}{lost}"


def time_text(spread: Spread, planned: int) -> str:
    """As `spread_text`; a time without a scatter has three digits, as no clock is as fine as a loss."""
    if spread.mean is None or spread.std:
        return spread_text(spread, planned)
    lost = f" ({spread.n} of {planned})" if spread.n != planned else ""
    return f"{_digits(spread.mean) if spread.mean > 0 else '0'}{lost}"


def metric_text(column: str, value: float) -> str:
    """For example "0.2345" for a loss, "97.12%" for an accuracy: one evaluation of one run. A share of nothing: –."""
    if metric_of(column).percent and math.isnan(value):
        return NOTHING
    if metric_of(column).percent:
        return f"{100 * value:.{PERCENT_DECIMALS}f}{unit_of(column).replace('pp', ' pp')}"
    return f"{value:.2e}" if is_extreme(value) else f"{value:.{LOSS_DECIMALS}f}"


def difference_text(comparison: Difference) -> str:
    """For example "+1.83 pp [+1.10, +2.56]"; without the interval where one seed can't give any."""
    if comparison.difference is None:
        return NOTHING
    text = amount_text(comparison, comparison.difference)
    if not has_width(comparison.ci_low, comparison.ci_high):
        return text
    low, high = (_amount(comparison, end or 0.0) for end in (comparison.ci_low, comparison.ci_high))
    return f"{text} [{low}, {high}]"


def has_width(low: float | None, high: float | None) -> bool:
    """Whether an interval is informative: without scatter between seeds its ends are equal."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return False
    return high - low > 1e-9 * max(abs(low), abs(high))


def new_samples_text(comparison: Difference) -> str:
    """E.g. "[+0.60, +3.06]": the interval for new samples, with the digits of its own width; – where there is none."""
    percent = metric_of(comparison.metric).percent
    return interval_text(None, comparison.new_low, comparison.new_high, percent=percent).removesuffix(" pp")


def amount_text(comparison: Difference, value: float, sign: str = "+") -> str:
    """A value in the unit of the comparison's metric: "+1.83 pp" for an accuracy, "-0.0123" for a loss."""
    unit = " pp" if metric_of(comparison.metric).percent else ""
    return f"{_amount(comparison, value, sign)}{unit}"


def largest_difference(comparison: Difference) -> float:
    """The largest possible difference: 1 between two shares, 2 between two gaps of shares, unbounded between losses."""
    metric = metric_of(comparison.metric)
    return metric.highest - (metric.lowest or 0.0)


def detectable_range(comparison: Difference) -> str:
    """For example "0.8 to 3.9 pp": the smallest detectable effect, as an interval; "0.8 pp or more" beyond 100 pp."""
    low, high = comparison.detectable_low, comparison.detectable_high
    if low is None or high is None:
        return NOTHING
    least = amount_text(comparison, low, sign="")
    if high > largest_difference(comparison):
        return f"{least} or more"
    return f"{least.removesuffix(' pp')} to {amount_text(comparison, high, sign='')}"


def _amount(comparison: Difference, value: float, sign: str = "+") -> str:
    return _number(value, comparison.ci_low, comparison.ci_high, metric_of(comparison.metric).percent, sign)


def interval_text(value: float | None, low: float | None, high: float | None, *, percent: bool) -> str:
    """For example "+1.83 pp [+1.10, +2.56]" of anything in a metric's unit; without a value, the interval alone."""
    unit = " pp" if percent else ""
    if percent and low is not None and high is not None and max(abs(low), abs(high)) < _LEAST_POINTS:
        low = high = None  # no share of samples is so small: arithmetic
    text = "" if value is None else f"{_number(value, low, high, percent)}{unit}"
    if low is None or high is None or not has_width(low, high):
        return text or NOTHING
    interval = f"[{_number(low, low, high, percent)}, {_number(high, low, high, percent)}]"
    return f"{text} {interval}" if text else f"{interval}{unit}"


def number_interval(value: float | None, low: float | None, high: float | None, sign: str = "+") -> str:
    """For example "-120 [-180, -60]" of a count, a time or a ratio."""
    if value is None:
        return NOTHING
    if low is None or high is None or not has_width(low, high):
        return _signed_number(value, abs(value) / 10, sign)
    half = (high - low) / 2
    center, lower, upper = (_signed_number(number, half, sign) for number in (value, low, high))
    return f"{center} [{lower}, {upper}]"


def ratio_text(value: float | None, low: float | None, high: float | None) -> str:
    """E.g. "2.83 [1.41, 5.66]" of a ratio, three digits each: neither 0 nor the other end hides how far it reaches."""
    if value is None:
        return NOTHING
    if low is None or high is None or not has_width(low, high):
        return _digits(value)
    return f"{_digits(value)} [{_digits(low)}, {_digits(high)}]"


def factor_text(ratio: float) -> str:
    """For example "3.0", "0.87", "1.02": what lies near 1 keeps the digits that tell it from 1."""
    if not 0.01 <= ratio < 99.5:
        return ratio_text(ratio, None, None)
    decimals = 2 if ratio < 1 or 1 < ratio < 1.05 else 1 if ratio < 9.95 else 0
    return f"{ratio:.{decimals}f}"


def factor_interval(value: float, low: float | None, high: float | None) -> str:
    """For example "13 [11, 16]", "1.47 [1.42, 1.53]": decimals that suit the width of the interval."""
    if low is None or high is None or not 0.01 <= low <= high < 9_999.5:
        return factor_text(value) if low is None or high is None else ratio_text(value, low, high)
    decimals = min(max(0, math.ceil(-math.log10((high - low) / 4))), 3) if high > low else 2
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _digits(value: float) -> str:
    if not 1e-3 <= value < 1e6:
        return "<0.001" if value < 1 else ">999,999"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(float(f'{value:.2e}'))))}f}"


def _signed_number(value: float, scatter: float, sign: str) -> str:
    if abs(value) >= 1e7 or 0 < abs(value) < 1e-4:
        return f"{value:{sign}.1e}"
    text = f"{value:{sign},.{decimals_for(scatter, True)}f}"
    return text if text.strip("+-0.,") else text.replace("-", sign)


def share_text(share: float | None, low: float | None, high: float | None) -> str:
    """For example "80% [38%, 96%]"."""
    if share is None or low is None or high is None:
        return NOTHING
    return f"{100 * share:.0f}% [{100 * low:.0f}%, {100 * high:.0f}%]"


def p_text(p: float | None) -> str:
    """For example "0.031", "<0.0001"."""
    if p is None:
        return NOTHING
    return "<0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def runs_text(count: int) -> str:
    """For example "5 runs", "1 run"."""
    return f"{count:,} run{'s' * (count != 1)}"


def count_text(n: int, planned: int) -> str:
    """For example "5", or "4 of 5" where some are not there."""
    return str(n) if n == planned else f"{n} of {planned}"


def margin_text(comparison: Difference) -> str:
    """For example "0.2 points" for an accuracy, "0.01" for a loss."""
    margin = comparison.margin or 0.0
    return f"{100 * margin:g} points" if metric_of(comparison.metric).percent else f"{margin:g}"


def value_text(column: str, value: float) -> str:
    """For example "97.12" (its unit stands in the title) for an accuracy, "0.2345" for a loss."""
    return metric_text(column, value).removesuffix("%").removesuffix(" pp")


def _number(value: float, low: float | None, high: float | None, percent: bool, sign: str = "+") -> str:
    scale = 100 if percent else 1
    half = scale * (high - low) / 2 if low is not None and high is not None and has_width(low, high) else None
    value *= scale
    if percent and half is None and abs(value) < _LEAST_POINTS:
        value = 0.0
    if half and abs(value) < 1e-6 * half:
        value = 0.0  # what rounding leaves of seeds that cancel
    if is_extreme(value):
        return f"{value:{sign}.1e}"
    decimals = max(decimals_for(half, percent), 1 if percent else 2)  # a wide interval hides no effect
    text = f"{value:{sign}.{decimals}f}"
    return text if text.strip("+-0.") else text.replace("-", "+" if sign == "+" else "")


def decimals_for(scatter: float | None, percent: bool) -> int:
    """Decimals that show two significant digits of the scatter."""
    if not scatter:
        return PERCENT_DECIMALS if percent else LOSS_DECIMALS
    exponent = int(f"{scatter:.1e}".partition("e")[2])  # of the rounded number: 0.0996 is 1.0e-01
    return min(max(1 - exponent, 0), MAX_DECIMALS)


def target_text(target: Target) -> str:
    """For example "val_accuracy >= 97%" or "val_loss <= 0.1"."""
    metric = metric_of(target.metric)
    sign = "<=" if metric.better == "lower" else ">="
    value = f"{100 * target.value:.6g}%" if metric.percent else f"{target.value:.6g}"
    if math.isnan(target.value):
        value = "unknown"
    return f"{target.metric} {sign} {value}{' (match_baseline)' if target.match_baseline else ''}"


#: Metrics whose names are not their words.
_SPELLED = {
    "frechet": "Fréchet distance", "kernel": "kernel distance", "coverage": "class coverage", "r2": "R²", "mse": "MSE",
    "mae": "MAE", "psnr": "PSNR", "kl": "KL", "kl_largest": "largest KL", "mean_iou": "mean IoU",
    "loss_little_noise": "loss at little noise", "loss_middle": "loss at medium noise",
    "loss_much_noise": "loss at much noise",
}  # fmt: skip


def words(column: str, language: str = ENGLISH) -> str:
    """For example "test accuracy" for "test_accuracy", "test recall of cat_1" for "test_recall:cat_1".

    "gap_loss" is the "loss gap", "val_gap_loss" the "val loss gap", "test_frechet" the "test Fréchet distance".
    """
    if language != ENGLISH and (translated := metric_in(column, language)):
        return translated
    part, metric = parted(column)
    if spelled := _SPELLED.get(metric or column):
        column, metric = column.removesuffix(metric or column) + spelled, spelled
    if part in GAPS:
        column = f"{part.removesuffix('gap')}{metric} gap"
    name, _, class_name = column.partition(":")
    return name.replace("_", " ").replace(" f1", " F1") + (f" of {class_name}" if class_name else "")


def unit_of(column: str) -> str:
    """The unit of its values: "%" of a share, "pp" (percentage points) of a gap between shares, "" of a loss."""
    percent = metric_of(column).percent
    return "" if not percent else "pp" if parted(column)[0] in GAPS else "%"


def with_unit(column: str) -> str:
    """For example "test accuracy (%)", "accuracy gap (pp)", "test loss"."""
    unit = unit_of(column)
    return f"{words(column)} ({unit})" if unit else words(column)


def heading(column: str) -> str:
    """For example "Macro F1" for "macro_f1"."""
    text = words(column)
    return text[:1].upper() + text[1:]


def outcome_text(outcome: str) -> str:
    """For example "stuck at chance" for "stuck_at_chance", "worse than at the start" for "worse_than_at_start"."""
    return words(outcome).replace("at start", "at the start")


def verdict_text(verdict: str | None) -> str:
    """For example "the same" for "same", "too few seeds" for "too_few_seeds": the word of a table's cell."""
    if verdict is None:
        return NOTHING
    return "the same" if verdict == "same" else words(verdict)


def is_extreme(value: float) -> bool:
    """Whether a number is written as "1.2e-05": too small or too large for decimal notation."""
    return value != 0 and not 1e-4 <= abs(value) < 1e5
