"""What is said of runs that were trained on more than one machine. Oracle: records that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from bnbench.analysis.circumstances import mixed_circumstances
from bnbench.analysis.convergence import CLOCKS
from bnbench.analysis.speed import compare_speed
from bnbench.analysis.summary import summarize
from bnbench.analysis.times import how_trained, why_not_comparable
from bnbench.reports.tables.outcomes import cost_table
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, RunRecord

HERE = {"device": "cpu", "processor": "A", "processor_flags": "11", "torch": "2.8", "num_threads": 1}


def cell(variant: str, machines: str, **environment: Any) -> Cell:
    """A run for each letter of `machines`, which is its machine; "?" does not say."""
    records = []
    for seed, machine in enumerate(machines):
        where = {} if machine == "?" else {"machine": machine}
        history = tuple(
            HistoryRow(step, step, step / 10, None, {"val_loss": 1.0 - step / 10}) for step in range(6)
        )
        record = RunRecord(
            variant, {}, seed, f"cell-{variant}", "none", "finished", steps=5, planned_steps=5, steps_per_epoch=1,
            train_seconds=1.0 + seed / 10, history=history, environment={**HERE, **environment, **where},
        )  # fmt: skip
        records.append(record)
    return Cell(variant, {}, f"cell-{variant}", tuple(range(len(machines))), tuple(records))


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("xxyy", "xxyy", ""),  # both runs of a seed are of one machine
        ("xxyy", "xxyx", "of seed 3 on another machine (y, not x)"),
        ("xx", "yy", "of seed 0 on another machine (x, not y)"),
        ("x?", "xy", ""),  # of before machines were recorded
    ],
)
def test_seconds_of_different_machines_are_not_compared(one: str, other: str, reason: str) -> None:
    variant, baseline = cell("batch", one), cell("none", other)
    assert why_not_comparable(variant.records, baseline.records) == reason
    by_clock = {speed.clock: speed for speed in compare_speed(variant, baseline, Target("val_loss", 0.7))}
    assert set(by_clock) == set(CLOCKS)
    assert by_clock["seconds"].refused == reason
    assert (by_clock["seconds"].difference is None) == bool(reason)
    assert by_clock["steps"].difference == 0  # steps are the same everywhere


def test_the_table_of_costs_says_why() -> None:
    cells = (cell("none", "xx"), cell("batch", "xy"))
    table = cost_table(summarize(StudyResults("s", "none", (), cells)))
    assert "of seed 1 on another machine (y, not x)" in str(table.rows[1])
    assert "on another machine" not in str(table.rows[0])


def test_the_machines_are_named_and_whether_pairs_lie_on_one() -> None:
    whole = [*cell("none", "xxy").records, *cell("batch", "xxy").records]
    assert how_trained(whole)[-1] == (
        "Trained on 2 machines: x (4 runs), y (2 runs); the runs of a seed are all of one machine."
    )
    apart = [*cell("none", "xxy").records, *cell("batch", "xxx").records]
    assert how_trained(apart)[-1].endswith("some seeds have runs of more than one.")
    assert not how_trained(cell("none", "xxx").records)


def test_the_report_says_where_numbers_may_differ_in_their_last_bits() -> None:
    runs = [*cell("none", "xx").records, *cell("batch", "yy", processor="B", processor_flags="22").records]
    (sentence,) = mixed_circumstances(runs)
    assert "2 kinds of processor: A (none seeds 0-1), B (batch seeds 0-1)" in sentence
    assert "their numbers may differ" in sentence
    assert "flags" not in sentence  # of another processor they are others
    assert not mixed_circumstances([*cell("none", "xx").records, *cell("batch", "yy").records])
    (sentence,) = mixed_circumstances(
        [*cell("none", "xx").records, *cell("batch", "xx", processor_flags="2").records]
    )
    assert "hash of the processor's flags: 11 (none seeds 0-1), 2 (batch seeds 0-1)" in sentence
