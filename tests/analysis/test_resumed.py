"""Runs that went on elsewhere are named, with what differed there. Oracle: sentences written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bnbench.analysis.circumstances import differences, mixed_circumstances
from bnbench.analysis.resumed import resumed_elsewhere, was_moved
from bnbench.results.environment import trained_under
from bnbench.study.records import RunRecord

HERE = {"device": "cpu", "torch": "2.14.1", "processor": "B"}
MOVED = {"step": 120, "elsewhere": {"processor": ["A", "B"], "num_threads": [4, 2]}}
STAYED = {"step": 60, "elsewhere": {}}


def record(seed: int, *resumed: Any, **further: Any) -> RunRecord:
    environment = {
        **HERE,
        **({"resumed": list(resumed)} if resumed else {}),
        "session": {"command": ["bnbench"]},
    }
    values: dict[str, Any] = {"variant": "batch", "setting": {}, "cell": "0" * 12, "norm": "batch"}
    return RunRecord(**{**values, "seed": seed, "outcome": "finished", "environment": environment, **further})


def test_runs_that_stayed_say_nothing() -> None:
    assert resumed_elsewhere([record(0), record(1, STAYED), record(2, STAYED, STAYED)]) == ()


def test_runs_that_moved_are_named_with_what_differed() -> None:
    runs = [record(0), record(1, STAYED, MOVED), record(2, MOVED), record(3, MOVED, outcome="crashed")]
    (text,) = resumed_elsewhere(runs)
    assert text.startswith(
        "resumed elsewhere: 2 runs, batch seeds 1-2 (processor A then, B now; threads 4 then, 2 now): their last bits "
        "may differ from those of a run without a stop."
    )
    assert "--refresh changed" in text
    assert [was_moved(run) for run in runs] == [False, True, True, True]


def test_long_values_and_many_differences_are_cut() -> None:
    flags = [f"avx512_{number}" for number in range(40)]
    elsewhere = {
        "processor flags": [flags, ["avx2"]],
        "torch": ["1", "2"],
        "python": ["3", "4"],
        "numpy": ["5", "6"],
    }
    (text,) = resumed_elsewhere([record(0, {"step": 1, "elsewhere": elsewhere})])
    assert "1 run, batch seed 0 (processor flags avx512_0, avx512_1, " in text
    assert "... then, avx2 now; torch 1 then, 2 now; python 3 then, 4 now; and 1 more difference)" in text
    assert len(text) < 400


@pytest.mark.parametrize("resumed", ["text", 3, [3], [{"elsewhere": 3}], [{}], None])
def test_a_file_that_says_something_else_says_nothing(resumed: Any) -> None:
    run = record(0, environment={**HERE, "resumed": resumed})
    assert resumed_elsewhere([run]) == ()


def test_a_kill_makes_no_other_circumstances() -> None:
    """Only what differed where it went on counts: the tables compare what runs were trained under."""
    runs = [record(0), record(1, STAYED), record(2, MOVED)]
    assert mixed_circumstances(runs) == ()
    assert differences(runs[2].environment, HERE) == []
    (group,) = trained_under(runs)["trained_under"]
    assert group["runs"] == {"batch": [0, 1, 2]}
    assert "resumed" not in group
