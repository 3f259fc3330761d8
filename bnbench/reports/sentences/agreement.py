"""Whether a variant with `role: check` repeats the one that it checks, in a sentence."""

from __future__ import annotations

from bnbench.analysis.agreement import Agreement, tolerance
from bnbench.analysis.contents import Summary
from bnbench.reports.numbers import margin_text, words
from bnbench.reports.sentences.effect import change_text, interval_words, seeds_text


def agreement_sentences(summary: Summary) -> list[str]:
    """One sentence per check; in a sweep, one per setting.

    >>> agreement_sentences(summary)
    ["custom gives the same results as batch on every seed (the first 100 losses are within 3e-07 of each other)."]
    """
    return [_sentence(agreement) for agreement in summary.agreements]


def brief_agreements(summary: Summary) -> list[str]:
    """The same, without the losses where every seed has the same result."""
    return [
        f"{agreement.label} gives the same results as {agreement.check_of_label} on every seed."
        if is_repeated(agreement)
        else _sentence(agreement)
        for agreement in summary.agreements
    ]


def _sentence(agreement: Agreement) -> str:
    own, checked, end = agreement.label, agreement.check_of_label, _end(agreement)
    if not agreement.steps:
        return f"{own} can't be compared with {checked}: no seed has the losses of both; {end}."
    if agreement.first_beyond == 1:
        return f"{own} differs from {checked} at once: {_drift(agreement)}; {end}."
    losses = _losses(agreement)
    match agreement.answer:
        case "agrees" if is_repeated(agreement):
            return f"{own} gives the same results as {checked} on every seed ({losses})."
        case "agrees":
            return f"{own} agrees with {checked}: {losses}; {end}."
        case "differs":
            return f"{own} differs from {checked} in the end: {end}; {losses}."
    return f"{own} is not shown to agree with {checked}: {losses}; {end}."


def _losses(agreement: Agreement) -> str:
    if agreement.first_beyond is not None:
        return f"{_drift(agreement)}, which some optimizers make of rounding"
    within = f"within {agreement.largest:.0e} of each other" if agreement.largest else "equal"
    number = f"{agreement.steps} " if agreement.steps > 1 else ""
    return f"the first {number}losses are {within}"


def _drift(agreement: Agreement) -> str:
    step = agreement.first_beyond or 1
    explained = f"rounding explains {tolerance(step):.0e}"
    return f"at step {step} the losses differ by {agreement.at_first_beyond:.0e} of their size ({explained})"


def is_repeated(agreement: Agreement) -> bool:
    """Whether the check agrees, and every planned seed has the same number at the end."""
    difference = agreement.comparison
    if agreement.answer != "agrees":
        return False
    return difference.n == difference.n_planned > 0 and not any(value for _, value in difference.values)


def _end(agreement: Agreement) -> str:
    """For example "test accuracy +0.02 points (95% interval -0.10 to +0.14, 5 seeds), the same within 0.2 points"."""
    difference, metric = agreement.comparison, words(agreement.comparison.metric)
    if not difference.n:
        return f"no seed has a {metric} of both"
    interval = f"95% interval {text}, " if (text := interval_words(difference)) else ""
    effect = f"{metric} {change_text(difference)} ({interval}{seeds_text(difference)})"
    if not any(value for _, value in difference.values):
        return f"{effect}, equal on every seed"
    if agreement.same is None:
        return effect
    same = "the same" if agreement.same else "not shown to be the same"
    return f"{effect}, {same} within {margin_text(difference)}"
