"""The text alternative of a figure: a sentence, and its numbers as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bnbench.base.metrics import metric_of
from bnbench.reports.figures.data import Row
from bnbench.reports.numbers import NOTHING, heading, unit_of, with_unit, words
from bnbench.reports.tables.table import Table

#: Evaluations of one variant in a curve's table; history.csv has them all.
MAX_ROWS = 12


def curve_words(rows: Sequence[Row], column: str) -> str:
    """The first and last mean of every variant."""
    unit = "%" if metric_of(column).percent else ""
    parts = [
        f"{label} from {number_text(curve[0][column])}{unit} to {number_text(curve[-1][column])}{unit} "
        f"at step {curve[-1]['step']}"
        for label, curve in by_label(rows)
    ]
    return f"Lines of {words(column)} by step, mean over seeds: {'; '.join(parts)}."


def curve_table(rows: Sequence[Row], metric: str) -> Table:
    """Mean and standard deviation at a dozen evaluations of every variant, of the validation and the training set."""
    columns = (f"val_{metric}", f"train_{metric}")
    lines = [
        (
            label,
            str(row["step"]),
            number_text(row["epoch"]),
            number_text(row["second"]),
            *(_mean_text(row, column) for column in columns),
            str(row[f"{columns[0]}_n"]),
        )
        for label, curve in by_label(rows)
        for row in _sampled_rows(curve)
    ]
    caption = (
        f"{_with_unit(columns[0], metric)}: mean ± standard deviation over the seeds with a finite number."
    )
    if any(len(curve) > MAX_ROWS for _, curve in by_label(rows)):
        caption += f" {MAX_ROWS} evaluations per variant; runs/*/history.csv has all of them."
    headings = ("variant", "step", "epoch", "seconds", *map(words, columns), "seeds")
    return Table("", caption, headings, tuple(lines), "lrrrrrr")


def survival_words(rows: Sequence[Row]) -> str:
    """The number of runs of each variant that reached the target, and their time."""
    parts = []
    for label, stairs in by_label([row for row in rows if row["by"] == "step"]):
        last = stairs[-1]
        first = next((row["x"] for row in stairs if row["k"] == last["k"]), 0)
        when = f" by step {first:g}" if last["k"] else ""
        parts.append(f"{label}: {last['k']} of {last['n']} runs{when}")
    return f"Staircases of the share of runs that have reached the target by step: {'; '.join(parts)}."


def survival_table(rows: Sequence[Row]) -> Table:
    """Every step at which one more run reached the target."""
    lines = [
        (label, f"{row['x']:g}", f"{row['k']} of {row['n']}")
        for label, stairs in by_label([row for row in rows if row["by"] == "step"])
        for row in stairs
    ]
    caption = "By step; the last row of a variant is the end of its runs."
    return Table("", caption, ("variant", "step", "runs that reached it"), tuple(lines), "lrr")


def difference_words(rows: Sequence[Row]) -> str:
    """Every difference with its interval."""
    parts = [_difference_words(row) for row in rows]
    return f"Differences from the baseline with their 95% intervals: {'; '.join(parts)}."


def _difference_words(row: Row) -> str:
    verdict = "" if row["verdict"] == NOTHING else f", {row['verdict']}"
    return f"{row['label']}, {row['split']}: {row['text']}{verdict}"


def difference_table(rows: Sequence[Row]) -> Table:
    """The differences, as in the tables."""
    lines = [(row["label"], row["split"], row["text"], str(row["n"]), row["verdict"]) for row in rows]
    columns = ("variant", "split", "difference [95% CI]", "pairs", "verdict")
    return Table("", "Paired by seed, after the last step.", columns, tuple(lines), "llrrl")


def sweep_words(rows: Sequence[Row], key: str, column: str) -> str:
    """The best setting of every variant."""
    metric, unit = metric_of(column), unit_of(column).replace("pp", " pp")
    choose = max if metric.better == "higher" else min
    parts = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        known = [row for row in rows if row["variant"] == name and row["mean"] is not None]
        if not known:
            parts.append(f"{name} has no number")
            continue
        best = choose(known, key=lambda row: row["mean"])
        parts.append(f"{name} is best at {best['setting']} with {number_text(best['mean'])}{unit}")
    return f"Mean {words(column)} over {key}: {'; '.join(parts)}."


def sweep_table(rows: Sequence[Row], column: str) -> Table:
    """Every cell: mean, standard deviation, and how many runs are behind them."""
    lines = [
        (row["variant"], row["setting"], _mean_text(row, "mean"), str(row["mean_n"]), str(row["failed"]))
        for row in rows
    ]
    title = with_unit(column)
    columns = ("variant", "setting", title, "runs", "not finished")
    return Table(
        "", "Mean ± standard deviation (n-1) over the runs with a number.", columns, tuple(lines), "llrrr"
    )


def by_label(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Label -> its rows, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        label = f"{row['variant']} @ {row['setting']}" if row["setting"] else row["variant"]
        groups.setdefault(label, []).append(row)
    return list(groups.items())


def _sampled_rows(rows: list[Row]) -> list[Row]:
    """At most MAX_ROWS evenly spaced rows, including the first and the last."""
    if len(rows) <= MAX_ROWS:
        return rows
    gap = (len(rows) - 1) / (MAX_ROWS - 1)
    return [rows[round(i * gap)] for i in range(MAX_ROWS)]


def _mean_text(row: Row, name: str) -> str:
    if row[name] is None or row[f"{name}_high"] is None:
        return number_text(row[name])
    return f"{number_text(row[name])} ± {row[f'{name}_high'] - row[name]:.2g}"


def _with_unit(column: str, name: str) -> str:
    return f"{heading(name)}{' (%)' if metric_of(column).percent else ''}"


def number_text(value: float | None) -> str:
    """Four digits; – where there is no number."""
    return NOTHING if value is None else f"{value:.4g}"
