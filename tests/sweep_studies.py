"""Small sweeps made of patterns, for the tests of what is said of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.reports.tables.all import tables
from bnbench.reports.tables.table import Table
from bnbench.results import Cell, StudyResults
from bnbench.study.records import Outcome, RunRecord

LRS = (0.01, 0.1, 1.0, 10.0)
OUTCOMES: dict[str, Outcome] = {"+": "finished", "-": "not_finite", "x": "crashed"}
Height = Callable[[str, int, int], float]


def run(variant: str, key: str, value: float, seed: int, outcome: Outcome, accuracy: float) -> RunRecord:
    """One run of 400 test samples; it has no number where it crashed."""
    setting = {key: value}
    if outcome == "crashed":
        return RunRecord(variant, setting, seed, "c", variant, outcome, error="boom")
    final = {"test_accuracy": accuracy, "val_accuracy": accuracy, "val_loss": 1 - accuracy}
    return RunRecord(
        variant, setting, seed, "c", variant, outcome, steps=9, planned_steps=9, final=final,
        num_samples={"train": 900, "val": 100, "test": 400},
    )  # fmt: skip


def sweep(
    trains: Mapping[str, Sequence[str]],
    height: Height = lambda variant, place, seed: 0.9,
    key: str = "optimizer.lr",
    values: Sequence[float] = LRS,
) -> Summary:
    """trains: a variant's seeds at each value: "+" finished, "-" not finite, "x" crashed."""
    return summarize(results(trains, height, key, values))


def results(
    trains: Mapping[str, Sequence[str]],
    height: Height = lambda variant, place, seed: 0.9,
    key: str = "optimizer.lr",
    values: Sequence[float] = LRS,
) -> StudyResults:
    """The same before anything is summarized."""
    cells = []
    for variant, patterns in trains.items():
        for place, (value, pattern) in enumerate(zip(values, patterns, strict=False)):
            runs = [
                run(variant, key, value, s, OUTCOMES[sign], height(variant, place, s))
                for s, sign in enumerate(pattern)
            ]
            cells.append(Cell(variant, {key: value}, "c", tuple(range(len(pattern))), tuple(runs)))
    return StudyResults("demo", "none", (), tuple(cells))


def table(summary: Summary, title: str) -> Table:
    """The one whose title starts so."""
    return next(found for found in tables(summary) if found.title.startswith(title))
