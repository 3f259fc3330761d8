"""The limits of a verdict, in the same sentence: after a semicolon, or in the brackets of a sweep."""

from __future__ import annotations

from bnbench.analysis.difference import Difference
from bnbench.reports.numbers import margin_text, p_text


def doubts(comparison: Difference) -> str:
    """E.g. "; with new test samples the difference may be zero; the sign-flip test disagrees (p 0.062)", or ""."""
    return f"{_small(comparison)}{_other_samples(comparison)}{disagreement(comparison)}"


def disagreement(comparison: Difference) -> str:
    """Where the check of the verdict's test disagrees."""
    if not comparison.checks_disagree:
        return ""
    return f"; but the sign-flip test says otherwise (p {p_text(comparison.sign_flip_p)})"


def _small(comparison: Difference) -> str:
    """Where a sure difference may still be smaller than the study's margin."""
    low, high, margin = comparison.ci_low, comparison.ci_high, comparison.margin
    if margin is None or low is None or high is None or min(abs(low), abs(high)) >= margin:
        return ""
    return f"; it may be less than the margin of {margin_text(comparison)}"


def _other_samples(comparison: Difference) -> str:
    """Where the verdict holds for these test samples alone."""
    low, high = comparison.new_low, comparison.new_high
    if low is None or high is None or low > 0 or high < 0:
        return ""
    return "; with new test samples the difference may be zero"
