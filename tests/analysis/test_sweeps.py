"""Rates and noise floors of a sweep: small studies with answers by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from scipy.stats import fisher_exact

from bnbench.analysis.contents import Summary
from bnbench.analysis.noise import binomial_error
from bnbench.analysis.summary import summarize
from bnbench.reports.tables.all import tables
from bnbench.reports.tables.table import Table
from bnbench.results import Cell, StudyResults
from bnbench.study.records import Outcome, RunRecord

LRS = (0.01, 0.1, 1.0, 10.0)


def run(variant: str, lr: float, seed: int, outcome: Outcome, accuracy: float) -> RunRecord:
    if outcome == "crashed":
        return RunRecord(variant, {"optimizer.lr": lr}, seed, "c", variant, outcome, error="boom")
    final = {"test_accuracy": accuracy, "val_accuracy": accuracy, "val_loss": 1 - accuracy}
    return RunRecord(
        variant, {"optimizer.lr": lr}, seed, "c", variant, outcome, steps=9, planned_steps=9, final=final,
        num_samples={"train": 900, "val": 100, "test": 400},
    )  # fmt: skip


def sweep(
    trains: Mapping[str, Sequence[str]], accuracy: Mapping[str, Sequence[float]] | None = None
) -> Summary:
    """trains: a variant's seeds at each learning rate: "+" finished, "-" not finite, "x" crashed."""
    outcomes: dict[str, Outcome] = {"+": "finished", "-": "not_finite", "x": "crashed"}
    cells = []
    for variant, patterns in trains.items():
        for place, (lr, pattern) in enumerate(zip(LRS, patterns, strict=False)):
            height = accuracy[variant][place] if accuracy else 0.9
            runs = [run(variant, lr, s, outcomes[sign], height + s / 1000) for s, sign in enumerate(pattern)]
            cells.append(Cell(variant, {"optimizer.lr": lr}, "c", tuple(range(len(pattern))), tuple(runs)))
    return summarize(StudyResults("demo", "none", (), tuple(cells)))


def table(summary: Summary, title: str) -> Table:
    return next(found for found in tables(summary) if found.title.startswith(title))


def test_words_can_be_swept_without_decades() -> None:
    cells = [
        Cell(v, {"init.name": i}, "c", (0, 1, 2), tuple(run(v, 0.1, s, "finished", 0.9) for s in range(3)))
        for v in ("none", "batch")
        for i in ("he", "torch")
    ]
    summary = summarize(StudyResults("demo", "none", (), tuple(cells)))
    assert not summary.usable_ranges
    assert [row.value for row in summary.interactions] == ["he", "torch"]


def test_rates_of_runs_that_trained_at_all() -> None:
    summary = sweep({"none": ["--------"], "batch": ["+++++++x"]})
    none, batch = summary.rates
    assert (none.trained, none.n, none.low, none.high) == (0, 8, 0.0, pytest.approx(0.3244, abs=1e-4))
    assert (batch.trained, batch.n) == (7, 7)
    assert batch.p == batch.p_holm == pytest.approx(fisher_exact([[7, 0], [0, 8]]).pvalue)
    assert (batch.only_variant, batch.only_baseline, batch.paired_p) == (7, 0, 2 / 128)
    assert none.p is None
    rows = table(summary, "Training success rate").rows
    assert rows[1] == ("batch @ optimizer.lr=0.01", "7 of 7", "100% [65%, 100%]", "7", "0", "0.00016")
    assert not any(
        found.title == "Training success rate" for found in tables(sweep({"none": ["++"], "batch": ["++"]}))
    )


def test_unpaired_rates_are_fishers() -> None:
    _, batch = sweep({"none": ["xx--"], "batch": ["++xx"]}).rates
    assert (batch.p, batch.paired_p) == (pytest.approx(1 / 3), None)  # of 6 tables, 2 are as unlikely


def test_both_floors_of_noise() -> None:
    assert binomial_error(0.9, 400) == pytest.approx(0.015)
    assert binomial_error(0.9, None) is None
    summary = sweep({"none": ["+++"], "batch": ["+++"]})
    floor = summary.noise[0]
    assert (floor.metric, floor.num_samples, floor.seed_std) == ("test_accuracy", 400, pytest.approx(0.001))
    assert floor.sampling_error == pytest.approx(math.sqrt(0.901 * 0.099 / 400))
    assert table(summary, "Where the scatter comes from").rows[0] == (
        "none @ optimizer.lr=0.01",
        "test accuracy",
        "0.10 pp",
        "1.49 pp",
        "400",
    )
