"""The table of the variants with `role: check`."""

from __future__ import annotations

from bnbench.analysis.agreement import Agreement
from bnbench.analysis.contents import Summary
from bnbench.reports.numbers import NOTHING, difference_text, words
from bnbench.reports.tables.table import Table


def agreement_table(summary: Summary) -> Table:
    """Empty where no variant is a check."""
    caption = (
        "Variants with role: check, which are not among the comparisons. first losses: their largest difference, as a "
        "share of the larger one, over all seeds. drift: the first step whose difference is more than rounding "
        "explains (1e-05 at the first step, 28% more at every further one). agrees: no drift, and no difference at the "
        "end; or the same within the margin."
    )
    columns = ("variant", "check of", "first losses", "steps", "drift", "difference [95% CI]", "agrees")
    rows = tuple(map(_row, summary.agreements))
    return Table(f"Agreement: {words(summary.primary)}", caption, columns, rows, "llrrrrl")


def _row(agreement: Agreement) -> tuple[str, ...]:
    answers = {"agrees": "yes", "differs": "differs", "not_shown": "not shown"}
    return (
        agreement.label,
        agreement.check_of_label,
        NOTHING if agreement.largest is None else f"{agreement.largest:.0e}",
        str(agreement.steps),
        NOTHING if agreement.first_beyond is None else f"step {agreement.first_beyond}",
        difference_text(agreement.comparison),
        answers[agreement.answer],
    )
