"""What a variant with `role: check` came to: a sentence, and a table."""

from __future__ import annotations

from bnbench.analysis.agreement import Agreement, tolerance
from bnbench.analysis.contents import Summary
from bnbench.reports.numbers import NOTHING, difference_text, margin_text, words
from bnbench.reports.tables.table import Table

_ANSWERS = {"agrees": "agrees", "differs": "differs", "not_shown": "not shown"}


def agreement_sentences(summary: Summary) -> list[str]:
    """One a check; in a sweep, one a setting."""
    return [_sentence(found) for found in summary.agreements]


def agreement_table(summary: Summary) -> Table:
    """Empty where no variant is a check."""
    caption = (
        "role: check: outside the family of comparisons. first losses: their largest difference, as a share of the "
        "larger one, over all seeds. drift: the first step at which rounding does not explain it (1e-05 at the first "
        "step, 28% more at every further one). agrees: no such step, and the end does not differ; or the same within "
        "the margin."
    )
    columns = ("variant", "check of", "first losses", "steps", "drift", "difference [95% CI]", "agrees")
    rows = tuple(_row(found) for found in summary.agreements)
    return Table(f"Agreement: {words(summary.primary)}", caption, columns, rows, "llrrrrl")


def _row(found: Agreement) -> tuple[str, ...]:
    return (
        found.label,
        found.check_of_label,
        NOTHING if found.largest is None else f"{found.largest:.0e}",
        str(found.steps),
        NOTHING if found.first_beyond is None else f"step {found.first_beyond}",
        difference_text(found.comparison),
        "yes" if found.answer == "agrees" else _ANSWERS[found.answer],
    )


def _sentence(found: Agreement) -> str:
    ours, theirs = found.label, found.check_of_label
    if not found.steps:
        return f"{ours} can't be held against {theirs}: no seed has the losses of both; {_end(found)}."
    if found.first_beyond == 1:
        return f"{ours} differs from {theirs} at once: {_beyond(found)}; {_end(found)}."
    within = f"within {found.largest:.0e} of each other" if found.largest else "equal"
    losses = (
        f"the first {found.steps} losses are {within}"
        if found.steps > 1
        else f"the first losses are {within}"
    )
    if found.first_beyond is not None:
        losses = f"{_beyond(found)}, which some optimizers make of rounding"
    match found.answer:
        case "agrees":
            return f"{ours} agrees with {theirs}: {losses}; {_end(found)}."
        case "differs":
            return f"{ours} differs from {theirs} in the end: {_end(found)}; {losses}."
    return f"{ours} is not shown to agree with {theirs}: {losses}; {_end(found)}."


def _beyond(found: Agreement) -> str:
    step = found.first_beyond or 1
    explained = f"rounding explains {tolerance(step):.0e}"
    return f"at step {step} the losses differ by {found.at_first_beyond:.0e} of their size ({explained})"


def _end(found: Agreement) -> str:
    """ "test accuracy +0.02 pp, 95% interval [-0.10, +0.14], 5 paired seeds, the same within 0.2 pp"."""
    comparison, metric = found.comparison, words(found.comparison.metric)
    if not comparison.n:
        return f"no seed has a {metric} of both"
    text = difference_text(comparison).replace(" [", ", 95% interval [")
    seeds = f"{comparison.n} paired seed{'' if comparison.n == 1 else 's'}"
    if not any(value for _, value in comparison.values):
        return f"{metric} {text}, {seeds}, equal on every seed"
    if found.same is None:
        return f"{metric} {text}, {seeds}"
    same = "the same" if found.same else "not shown to be the same"
    return f"{metric} {text}, {seeds}, {same} within {margin_text(comparison)}"
