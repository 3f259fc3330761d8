"""Curves of one line: the right height at the right place, on one scale, with gaps where nothing is finite."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.reports.tables.small_curves import WIDTH, main_curves, small_curves
from bnbench.results import Cell, StudyResults
from bnbench.study.records import HistoryRow, RunRecord
from tests.shown import print_everything


def summary_of(**curves: Sequence[float]) -> Summary:
    """One run a variant; its validation loss at steps 0, 10, 20, ...; accuracy is 1 - loss / 10."""
    cells = []
    for variant, losses in curves.items():
        history = tuple(
            HistoryRow(10 * i, i, i, None, {"val_loss": loss, "val_accuracy": 1 - loss / 10})
            for i, loss in enumerate(losses)
        )
        record = RunRecord(variant, {}, 0, "c", "none", "finished", history=history, steps=90)
        cells.append(Cell(variant, {}, "c", (0,), (record,)))
    return summarize(StudyResults("demo", next(iter(curves)), (), tuple(cells)))


def test_heights_and_ends_on_one_scale() -> None:
    down, half = small_curves(summary_of(down=[8, 4, 0], half=[4, 4, 4])).rows
    assert down == ("down", "█▅▁ 8 → 0", "▁▅█ 20% → 100%")
    assert half == ("half", "▅▅▅ 4 → 4", "▅▅▅ 60% → 60%")


def test_a_long_history_is_sampled_evenly_from_first_to_last() -> None:
    ((_, loss, _),) = small_curves(summary_of(long=[float(i) for i in range(200)])).rows
    bars = loss.split()[0]
    assert len(bars) == WIDTH
    assert bars == "".join(sorted(bars))
    assert (bars[0], bars[-1]) == ("▁", "█")


def test_what_is_not_finite_is_a_gap() -> None:
    _, lost = small_curves(summary_of(fine=[2, 1, 0], lost=[2, math.nan, math.inf])).rows
    assert lost[1] == "█·· 2 → not finite"


def test_a_primary_metric_of_the_end_alone_leaves_the_curve_to_the_loss() -> None:
    summary = summary_of(down=[8, 4, 0])
    assert main_curves(summary).columns == ("variant", "val accuracy")
    run = summary.variants[0].runs[0]
    rows = tuple(replace(row, metrics={**row.metrics, "val_accuracy": math.nan}) for row in run.history)
    late = replace(summary, variants=(replace(summary.variants[0], runs=(replace(run, history=rows),)),))
    assert main_curves(late).columns == ("variant", "val loss")
    assert main_curves(late).rows == (("down", "█▅▁ 8 → 0"),)
    # where the tables leave the loss out, too: the next metric with numbers, or no number at all
    alone = replace(late, metrics=("accuracy",))
    assert main_curves(alone).columns == ("variant", "val accuracy")
    assert main_curves(alone).rows == (("down", "··· not finite → not finite"),)


def test_nothing_is_drawn_of_a_single_evaluation() -> None:
    assert not small_curves(summary_of(one=[1.0])).rows


def test_only_where_the_terminal_has_the_characters() -> None:
    summary = summary_of(down=[8, 4, 0])
    for encoding, expected in (("utf-8", True), ("ascii", False)):
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
        print_everything(Console(file=file, width=80), summary)
        file.seek(0)
        assert ("Learning curves" in file.read()) == expected
