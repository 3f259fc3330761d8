"""Tables of a sweep: the best settings, the settings that are usable at all, and how the difference moves."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.sweeps import Interaction, UsableRange
from bnbench.metrics import metric_of
from bnbench.report.numbers import (
    NOTHING,
    difference_text,
    interval_text,
    plain_interval,
    spread_text,
    words,
)
from bnbench.report.table import Table, count_text


def sweep_tables(summary: Summary) -> Iterator[Table]:
    """None where nothing is swept."""
    if summary.best_settings:
        yield _best_table(summary)
    for key in dict.fromkeys(found.key for found in summary.usable_ranges):
        yield _usable_table(summary, key)
    for key in dict.fromkeys(found.key for found in summary.interactions):
        yield _interaction_table(summary, key)


def _best_table(summary: Summary) -> Table:
    caption = (
        "The setting with the lowest mean final val_loss over seeds; one where a run failed or is missing comes after "
        f"those without. Chosen on validation data. {_same_trials(summary)}"
    )
    rows = [
        (
            best.label,
            spread_text(best.val_loss, best.val_loss.n),
            count_text(*_trials(summary, best.variant)),
        )
        for best in summary.best_settings
    ]
    return Table(
        "Best settings", caption, ("variant", "final val loss", "settings tried"), tuple(rows), "lrr"
    )


def _trials(summary: Summary, name: str) -> tuple[int, int]:
    """At how many settings a variant has runs, and at how many it is planned."""
    cells = [variant for variant in summary.variants if variant.variant == name]
    return sum(bool(cell.runs) for cell in cells), len(cells)


def _same_trials(summary: Summary) -> str:
    tried = {_trials(summary, best.variant)[0] for best in summary.best_settings}
    if len(tried) == 1:
        return f"Every variant had the same number of trials: {tried.pop()} settings."
    return "Not every variant has been tried at as many settings: the best of more trials looks better by chance."


def _usable_table(summary: Summary, key: str) -> Table:
    found = [usable for usable in summary.usable_ranges if usable.key == key]
    caption = (
        f"Values of {key} with which runs finish and do not diverge. trains from, to: with every seed. decades: log10 "
        "of the longest unbroken range of a seed (a single value, or none: 0), mean over seeds and 95% t interval; "
        f">=: it reaches the edge of the sweep, so it is at least this. difference: from {summary.baseline}, paired "
        "by seed."
    )
    columns = ("variant", "trains from", "to", "decades [95% CI]", "seeds", "difference [95% CI]")
    rows = tuple(_usable_row(usable) for usable in found)
    return Table(f"Usable {key}", caption, columns, rows, "lrrrrr")


def _usable_row(usable: UsableRange) -> tuple[str, ...]:
    decades = plain_interval(usable.mean, usable.ci_low, usable.ci_high, sign="")
    return (
        usable.label,
        NOTHING if usable.lowest is None else f"{usable.lowest:g}",
        NOTHING if usable.highest is None else f"{usable.highest:g}",
        f"{'>= ' if usable.open_ended else ''}{decades}",
        count_text(usable.n, usable.n_planned),
        plain_interval(usable.difference, usable.difference_low, usable.difference_high),
    )


def _interaction_table(summary: Summary, key: str) -> Table:
    found = [row for row in summary.interactions if row.key == key]
    caption = (
        f"Final {words(summary.primary)}, variant minus {summary.baseline} at the same setting, and how much that "
        "difference has changed since the first value: both paired by seed, 95% intervals, not corrected. An interval "
        "of the change without 0 says that the effect depends on the setting."
    )
    columns = ("variant", key, "difference [95% CI]", "change [95% CI]", "pairs")
    title = f"How the difference moves with {key}"
    return Table(title, caption, columns, tuple(_interaction_row(row, key) for row in found), "llrrr")


def _interaction_row(row: Interaction, key: str) -> tuple[str, ...]:
    percent = metric_of(row.comparison.metric).percent
    change = interval_text(row.change, row.change_low, row.change_high, percent=percent)
    others = "".join(f", {name}={value}" for name, value in row.others.items())
    name = f"{row.comparison.variant}{others}"
    return name, str(row.value), difference_text(row.comparison), change, str(row.n)
