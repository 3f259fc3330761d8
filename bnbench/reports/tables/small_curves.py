"""Curves of one line each, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from bnbench.analysis.contents import Summary
from bnbench.base.metrics import metric_of
from bnbench.reports.figures.data import Row, at_best_setting, curves, mean_rows, variant_names
from bnbench.reports.numbers import words
from bnbench.reports.tables.table import Table

#: From the lowest to the highest.
BARS = "▁▂▃▄▅▆▇█"
#: Where no seed has a finite number.
GAP = "·"
#: Characters of one curve at most.
WIDTH = 20


def small_curves(summary: Summary, columns: Sequence[str] | None = None) -> Table:
    """A curve a variant and metric on one common scale a metric; no rows where nothing was evaluated twice.

    columns: the metrics, as a history names them; None: the first two of the task, on the validation part.
    """
    columns = columns or [f"val_{name}" for name in summary.task.default_metrics[:2]]
    rows = at_best_setting(mean_rows(summary), summary)
    last = max((row["step"] for row in rows), default=0)
    scales = {column: [row[column] for row in rows if row[column] is not None] for column in columns}
    cells: list[tuple[str, ...]] = []
    for variant in variant_names(summary):
        own = [row for row in rows if row["variant"] == variant]
        if last and len(own) > 1:
            cells.append((variant, *(_curve(own, column, scales[column], last) for column in columns)))
    best = ", each at its best setting" if summary.best_settings else ""
    caption = (
        f"From the first step to step {last:,}: mean over the seeds with a finite number{best} ({GAP}: none). "
        "All curves of a column have one scale."
    )
    align = "l" * (1 + len(columns))
    return Table(
        "Learning curves", caption, ("variant", *map(words, columns)), tuple(cells), align, bars=True
    )


def main_curves(summary: Summary) -> Table:
    """One curve a variant: the primary metric on the validation set, over the steps of a run.

    Where the primary metric has no number there, such as one that is measured at the end of a run alone, the loss;
    where the tables leave the loss out, the first metric with numbers; without one, no rows.
    """
    drawn, rows = curves(summary), mean_rows(summary)
    wanted = [f"val_{metric_of(summary.primary).name}", "val_loss"]
    wanted += [column for column in drawn if column.startswith("val_")]
    measured = [
        column for column in wanted if column in drawn and any(row[column] is not None for row in rows)
    ]
    if not measured:  # each evaluation is there, and every number of it is missing
        return small_curves(summary, [column for column in wanted if column in drawn][:1])
    return small_curves(summary, measured[:1])


def _curve(rows: Sequence[Row], column: str, scale: Sequence[float], last: int) -> str:
    """E.g. "█▅▂▁▁ 2.3 → 0.21": the evaluation that is last at each of WIDTH points in time, at most one a character."""
    width = min(WIDTH, len({row["step"] for row in rows}))
    heights = []
    for index in range(width):
        until = last * index / (width - 1)
        value = [row[column] for row in rows if row["step"] <= until][-1]
        heights.append(GAP if value is None else _bar(value, min(scale), max(scale)))
    percent = "%" if metric_of(column).percent else ""
    first, end = (
        "not finite" if row[column] is None else f"{row[column]:.3g}{percent}" for row in (rows[0], rows[-1])
    )
    return f"{''.join(heights)} {first} → {end}"


def _bar(value: float, low: float, high: float) -> str:
    share = (value - low) / (high - low) if high > low else 0.5
    return BARS[min(int(share * len(BARS)), len(BARS) - 1)]
