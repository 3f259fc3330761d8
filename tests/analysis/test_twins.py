"""Variants that gave the same results count once. Oracle: Holm's correction by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import as_json
from bnbench.analysis.summary import summarize
from bnbench.analysis.twins import same_results
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.results import Cell, StudyResults
from bnbench.study.records import HistoryRow, Outcome, RunRecord

BASE = [0.90, 0.91, 0.92, 0.90, 0.91]
#: minus BASE: 0.01 0.02 0.03 0.03 0.01, t = 4.472 with 4 degrees of freedom, p = 0.0111
GOOD = [0.91, 0.93, 0.95, 0.93, 0.92]


def cell(
    name: str,
    accuracies: Sequence[float],
    *,
    drift: float = 0.0,
    middle: float = 0.5,
    outcome: Outcome = "finished",
    setting: dict[str, float] | None = None,
) -> Cell:
    """drift: relative change of every loss. middle: the validation loss half-way."""
    runs = []
    for seed, accuracy in enumerate(accuracies):
        loss = (1 - accuracy) * (1 + drift)
        numbers = {"test_accuracy": accuracy, "val_loss": loss}
        history = (HistoryRow(1, 0.5, 0.1, None, {"val_loss": middle}), HistoryRow(2, 1, 0.2, None, numbers))
        runs.append(
            RunRecord(name, setting or {}, seed, name, name, outcome, steps=2, final=numbers, best=numbers,
                      history=history)
        )  # fmt: skip
    return Cell(name, setting or {}, name, tuple(range(len(accuracies))), tuple(runs))


def study(*cells: Cell) -> Summary:
    return summarize(StudyResults("demo", "base", (), cells))


def holm_p(summary: Summary) -> dict[str, tuple[float, int]]:
    return {c.label: (c.p_holm, c.family) for c in summary.comparisons if c.verdict}


def test_copies_do_not_cost_a_verdict() -> None:
    """p 0.0111 alone; counted as four comparisons each would have 0.044, and as five 0.055."""
    summary = study(cell("base", BASE), *(cell(f"copy{i}", GOOD, drift=i * 1e-8) for i in range(5)))
    assert holm_p(summary) == {f"copy{i}": (pytest.approx(0.01106, abs=1e-5), 1) for i in range(5)}
    assert summary.same_results == (("copy0", "copy1", "copy2", "copy3", "copy4"),)
    assert verdict_sentences(summary)[-1] == (
        "copy0, copy1, copy2, copy3 and copy4 gave the same results on every seed: they count as one comparison."
    )
    values = as_json(summary)
    assert values["same_results"] == [["copy0", "copy1", "copy2", "copy3", "copy4"]]
    assert {c["twin"] for c in values["comparisons"] if c["verdict"]} == {None, "copy0"}


def test_others_beside_copies_are_counted() -> None:
    summary = study(cell("base", BASE), cell("a", GOOD), cell("b", GOOD), cell("c", [*GOOD[:4], 0.95]))
    assert {family for _, family in holm_p(summary).values()} == {2}


def test_the_baselines_twin_is_no_comparison() -> None:
    summary = study(cell("base", BASE), cell("same", BASE), cell("a", GOOD))
    assert holm_p(summary)["a"] == (pytest.approx(0.01106, abs=1e-5), 1)
    assert summary.same_results == (("base", "same"),)
    assert (
        "is undecided in test accuracy: 90.80% → 90.80%, +0.00 points (5 seeds); equal on every seed"
        in verdict_sentences(summary)[0]
    )


@pytest.mark.parametrize(
    "other",
    [
        cell("b", GOOD, drift=1e-5),  # ten times what rounding is taken for
        cell("b", GOOD, middle=0.50001),  # the same in the end, not on the way
        cell("b", [*GOOD[:4], 0.9201]),
        cell("b", GOOD[:4]),
        cell("b", GOOD, outcome="stuck_at_chance"),
    ],
    ids=["loss", "history", "accuracy", "a seed less", "outcome"],
)
def test_what_is_not_the_same(other: Cell) -> None:
    assert not same_results(cell("a", GOOD), other)
    assert same_results(cell("a", GOOD), cell("b", GOOD, drift=5e-7))


def test_all_that_diverge_look_alike_and_are_not_the_same() -> None:
    lost = [cell(name, [0.0, 0.0, 0.0], drift=math.nan, outcome="not_finite") for name in "ab"]
    assert not same_results(*lost)
    crashed = [cell(name, [0.0, 0.0, 0.0], outcome="crashed") for name in "ab"]
    assert not same_results(*crashed)


def test_in_a_sweep_the_names_are_given_once_where_all_settings_agree() -> None:
    cells = [
        cell(name, [value + lr / 100 + 0.001 * (i if name == "base" else 0) for i, value in enumerate(GOOD)],
             setting={"lr": lr})
        for name in ("base", "a", "b") for lr in (0.1, 1.0)
    ]  # fmt: skip
    assert study(*cells).same_results == (("a", "b"),)
    other = cell("b", GOOD, setting={"lr": 1.0})
    assert study(*cells[:-1], other).same_results == (("a @ lr=0.1", "b @ lr=0.1"),)
