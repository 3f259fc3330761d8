"""What the tables say of the seconds of runs that trained as one stack."""

from __future__ import annotations

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.analysis.times import how_trained
from bnbench.reports.tables.outcomes import cost_table
from bnbench.results import Cell, StudyResults
from bnbench.study.records import RunRecord


def summary(replicas: int) -> Summary:
    records = tuple(
        RunRecord("none", {}, seed, "c", "none", "finished", steps=10, train_seconds=1.0 + seed / 10,
                  environment={"replicas": replicas})
        for seed in (0, 1)
    )  # fmt: skip
    return summarize(StudyResults("s", "none", (), (Cell("none", {}, "c", (0, 1), records),)))


def test_equal_shares_of_one_time_have_no_spread_of_their_own() -> None:
    assert cost_table(summary(1)).rows[0][2] == "105.0 ± 7.1"
    assert cost_table(summary(2)).rows[0][2].startswith("105")
    assert "±" not in cost_table(summary(2)).rows[0][2]
    assert not summary(1).notes
    assert "share its time equally" in summary(2).notes[0]


def test_what_trained_the_runs_is_said() -> None:
    stacked = {"engine": "stacked", "device": "cpu", "num_threads": 1, "replicas": 2}
    alone = {"engine": "sequential", "device": "cpu", "num_threads": 4, "replicas": 1, "engine_reason": "why"}
    runs = [
        RunRecord(
            variant,
            {},
            seed,
            "c",
            "none",
            outcome,  # type: ignore[arg-type]
            environment=environment,
        )
        for variant, environment, outcome in (
            ("none", stacked, "finished"),
            ("batch", alone, "not_finite"),
            ("other", alone, "crashed"),
        )
        for seed in range(2 if variant == "none" else 1)
    ]
    assert how_trained(runs) == (
        "2 runs trained by the stacked engine on cpu, 1 thread, 2 seeds together.",
        "1 run trained by the sequential engine on cpu, 4 threads (why).",
    )
