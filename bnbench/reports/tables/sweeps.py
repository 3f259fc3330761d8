"""Tables of a sweep: the best settings, the settings that are usable at all, and how the difference moves."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.interactions import Interaction
from bnbench.analysis.ranges import Shift, UsableRange
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import (
    NOTHING,
    count_text,
    difference_text,
    interval_text,
    p_text,
    spread_text,
    words,
)
from bnbench.reports.sentences.ranges import edge_text, shift_text
from bnbench.reports.tables.table import Table


def best_tables(summary: Summary) -> Iterator[Table]:
    """The best setting of each variant; none where nothing is swept."""
    if summary.best_settings:
        yield _best_table(summary)


def usable_tables(summary: Summary) -> Iterator[Table]:
    """For each swept key, the range in which each variant trains."""
    for key in dict.fromkeys(usable.key for usable in summary.usable_ranges):
        yield _usable_table(summary, key)


def interaction_tables(summary: Summary) -> Iterator[Table]:
    """For each swept key, the effect at each of its values."""
    for key in dict.fromkeys(row.key for row in summary.interactions):
        yield _interaction_table(summary, key)


def choice_words(summary: Summary) -> str:
    """Which seeds chose the best settings that are compared, and which compared them."""
    best = summary.best_settings[0]
    if best.parted:
        few, others = len(best.choosing), len(best.comparing)
        return f"Chosen by the validation loss of the first {few} seeds, compared on the other {others}."
    return (
        f"Chosen by the validation loss of the same {len(best.comparing)} seeds. This favours variants with "
        "many equally good settings, so no verdict is given. With 5 seeds or more, some choose and the others compare."
    )


def _best_table(summary: Summary) -> Table:
    caption = (
        "The setting with the lowest mean final val_loss over all seeds; settings with failed or missing runs come "
        f"last. {_same_trials(summary)}"
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
    ranges = [usable for usable in summary.usable_ranges if usable.key == key]
    caption = (
        f"Values of {key} with which runs finish. trains: with every seed; in brackets the next value, which fails; "
        "cut: the sweep ends there, and the range may go on. decades: length of a seed's longest unbroken range, mean "
        "over seeds. An edge is known to one step of the sweep, so the length lies between the two numbers; the 95% t "
        f"interval over seeds lies outside both. edges: decades further out than {summary.baseline}'s, paired by seed, "
        "with the same bounds."
    )
    columns = ("variant", "trains from", "up to", "decades [95% CI]", "seeds", "lower edge", "upper edge")
    rows = tuple(_usable_row(usable) for usable in ranges)
    return Table(f"Usable range of {key}", caption, columns, rows, "lrrrrrr")


def _usable_row(usable: UsableRange) -> tuple[str, ...]:
    return (
        usable.label,
        edge_text(usable.first, usable.fails_below),
        edge_text(usable.last, usable.fails_above),
        decades_text(usable),
        count_text(usable.n, usable.n_planned),
        _shift_cell(usable.lower),
        _shift_cell(usable.upper),
    )


def decades_text(usable: UsableRange) -> str:
    """For example "2.0 to 3.0 [1.6, 3.4]", ">= 2.0 [>= 1.6]" where the sweep cuts a range."""
    if usable.least is None:
        return NOTHING
    if usable.most is None:
        low = "" if usable.low is None else f" [>= {max(usable.low, 0):.2f}]"
        return f">= {usable.least:.2f}{low}"
    interval = (
        "" if usable.low is None or usable.high is None else f" [{max(usable.low, 0):.2f}, {usable.high:.2f}]"
    )
    return f"{usable.least:.2f} to {usable.most:.2f}{interval}"


def _shift_cell(shift: Shift | None) -> str:
    return NOTHING if shift is None or not shift.n else shift_text(shift)


def _interaction_table(summary: Summary, key: str) -> Table:
    interactions = [row for row in summary.interactions if row.key == key]
    corrected = sum(row.p_holm is not None for row in interactions)
    caption = (
        f"Final {words(summary.primary)}, variant minus {summary.baseline} at the same setting, and how much that "
        "difference has changed since the first value: both paired by seed, each with its own 95% interval. The effect "
        f"depends on the setting where p is at most 5% after Holm's correction over the {corrected} changes."
    )
    columns = ("variant", key, "difference [95% CI]", "change [95% CI]", "pairs", "p (Holm)")
    title = f"Effect at each {key}"
    return Table(title, caption, columns, tuple(_interaction_row(row) for row in interactions), "llrrrr")


def _interaction_row(row: Interaction) -> tuple[str, ...]:
    percent = metric_of(row.comparison.metric).percent
    change = interval_text(row.change, row.change_low, row.change_high, percent=percent)
    others = "".join(f", {name}={value}" for name, value in row.others.items())
    name = f"{row.comparison.variant}{others}"
    pairs = count_text(row.n, row.n_planned)
    return name, str(row.value), difference_text(row.comparison), change, pairs, p_text(row.p_holm)
