"""A check is judged by agreement, outside the family. Oracles: the rules of `agreement`, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from bnbench.analysis.agreement import Agreement, tolerance
from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import as_json
from bnbench.analysis.summary import summarize
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin
from bnbench.study.records import RunRecord

LOSSES = [2.3 * 0.97**step for step in range(150)]
BUILTIN = [0.90, 0.92, 0.91, 0.93, 0.92]
NONE = [0.88, 0.90, 0.88, 0.90, 0.90]  # builtin is better: p 0.005


def cell(
    name: str,
    values: Sequence[float],
    drift: Callable[[int], float] = lambda step: 0.0,
    setting: dict[str, float] | None = None,
) -> Cell:
    """drift: relative change of the loss of each step (from 1)."""
    runs = tuple(
        RunRecord(
            name, setting or {}, seed, name, name, "finished", steps=150, planned_steps=150,
            final={"test_accuracy": value, "val_loss": 1 - value}, class_counts={"test": (500, 500)},
            class_names=("a", "b"),
            step_losses=tuple(loss * (1 + drift(step)) for step, loss in enumerate(LOSSES, start=1)),
        )
        for seed, value in enumerate(values)
    )  # fmt: skip
    return Cell(name, setting or {}, name, tuple(range(len(values))), runs)


def study(custom: Cell, margin: float | None = None, *more: Cell) -> Summary:
    cells = (cell("none", NONE), custom, cell("builtin", BUILTIN), *more)
    declared = None if margin is None else Margin("test_accuracy", margin)
    return summarize(StudyResults("demo", "none", (), cells, margin=declared, checks={"custom": "builtin"}))


def only(summary: Summary) -> Agreement:
    (found,) = summary.agreements
    return found


def test_a_check_is_outside_the_family() -> None:
    summary = study(cell("custom", BUILTIN, lambda step: 2e-7))
    verdicts = {
        c.label: (c.verdict, c.family)
        for c in summary.comparisons
        if c.metric == "test_accuracy" and c.at == "final"
    }
    assert verdicts == {"custom": (None, 1), "builtin": ("better", 1)}
    assert not summary.same_results  # a check that repeats its variant is what it should be
    assert verdict_sentences(summary)[-1] == (
        "custom gives the same results as builtin on every seed (the first 100 losses are within 2e-07 of each other)."
    )
    table = next(t for t in tables(summary) if t.title == "Agreement: test accuracy")
    assert table.rows[0][:5] == ("custom", "builtin", "2e-07", "100", "–")
    assert table.rows[0][-1] == "yes"
    values = as_json(summary)
    assert values["checks"] == {"custom": "builtin"}
    assert values["agreements"][0]["answer"] == "agrees"
    assert values["agreements"][0]["comparison"]["verdict"] is None


def test_the_tolerance_grows_by_28_percent_a_step() -> None:
    assert tolerance(1) == 1e-5
    assert tolerance(21) == pytest.approx(1e-5 * math.exp(5))
    assert tolerance(100) == 1.0
    assert tolerance(1, half_precision=True) == pytest.approx(0.65536)


def test_a_wrong_formula_is_seen_in_the_first_loss() -> None:
    """eps 1e-3 for 1e-5 moves a loss by some 1e-4 of its size."""
    found = only(study(cell("custom", BUILTIN, lambda step: 1e-4)))
    assert (found.answer, found.first_beyond) == ("differs", 1)
    assert verdict_sentences(study(cell("custom", BUILTIN, lambda step: 1e-4)))[-1].startswith(
        "custom differs from builtin at once: at step 1 the losses differ by 1e-04 of their size (rounding explains "
        "1e-05); "
    )


def test_a_wrong_gradient_is_seen_in_the_second() -> None:
    found = only(
        study(cell("custom", [0.90, 0.91, 0.92, 0.93, 0.92], lambda step: 0.0 if step == 1 else 1e-3))
    )
    assert (found.answer, found.first_beyond, found.at_first_beyond) == (
        "not_shown",
        2,
        pytest.approx(1e-3, rel=0.01),
    )


def test_rounding_that_grows_is_agreement() -> None:
    found = only(study(cell("custom", BUILTIN, lambda step: min(0.3, 1e-7 * math.exp(step / 5)))))
    assert (found.answer, found.largest) == ("agrees", pytest.approx(0.3 / 1.3, rel=0.01))


def test_a_wrong_inference_is_seen_in_the_end() -> None:
    """Running statistics change no loss of a training step."""
    found = only(study(cell("custom", [0.80, 0.81, 0.80, 0.82, 0.81])))
    assert (found.answer, found.first_beyond) == ("differs", None)
    sentence = verdict_sentences(study(cell("custom", [0.80, 0.81, 0.80, 0.82, 0.81])))[-1]
    assert sentence.startswith(
        "custom differs from builtin in the end: test accuracy -10.8 points (95% interval "
    )


DRIFTED = cell("custom", [0.901, 0.920, 0.911, 0.929, 0.920], lambda step: 1e-7 if step == 1 else 0.01)


@pytest.mark.parametrize(
    ("margin", "answer", "words"),
    [
        (
            None,
            "not_shown",
            "custom is not shown to agree with builtin: at step 2 the losses differ by 1e-02",
        ),
        (0.02, "agrees", "custom agrees with builtin: at step 2"),
        (0.0003, "not_shown", "not shown to be the same within 0.03 points"),
    ],
)
def test_where_losses_drift_equivalence_decides(margin: float | None, answer: str, words: str) -> None:
    summary = study(DRIFTED, margin)
    assert only(summary).answer == answer
    assert words in verdict_sentences(summary)[-1]


def test_where_no_losses_are_kept() -> None:
    custom = cell("custom", BUILTIN)
    bare = Cell("custom", {}, "c", custom.seeds, tuple(
        RunRecord("custom", {}, r.seed, "c", "c", "finished", final=r.final) for r in custom.records
    ))  # fmt: skip
    assert (only(study(bare)).answer, only(study(bare)).steps) == ("not_shown", 0)
    assert "no seed has the losses of both" in verdict_sentences(study(bare))[-1]
    crashed = Cell("custom", {}, "c", custom.seeds, tuple(
        RunRecord("custom", {}, r.seed, "c", "c", "crashed", error="boom") for r in custom.records
    ))  # fmt: skip
    assert "no seed has a test accuracy of both" in verdict_sentences(study(crashed))[-1]


def test_losses_that_are_not_finite() -> None:
    lost = study(cell("custom", BUILTIN, lambda step: math.nan if step > 10 else 0.0))
    assert (only(lost).first_beyond, only(lost).answer) == (11, "not_shown")


def test_in_a_sweep_each_setting_is_checked() -> None:
    cells = [
        cell(name, values, setting={"lr": lr})
        for name, values in (("none", NONE), ("custom", BUILTIN), ("builtin", BUILTIN))
        for lr in (0.1, 1.0)
    ]
    summary = summarize(StudyResults("demo", "none", (), tuple(cells), checks={"custom": "builtin"}))
    assert [(found.label, found.check_of_label) for found in summary.agreements] == [
        ("custom @ lr=0.1", "builtin @ lr=0.1"), ("custom @ lr=1.0", "builtin @ lr=1.0"),
    ]  # fmt: skip
    assert {c.variant for c in summary.comparisons if c.verdict} == {"builtin"}
    assert {c.variant for best in summary.best_settings for c in best.comparisons if c.verdict} == {"builtin"}


def test_in_a_sweep_a_check_is_in_no_family() -> None:
    """Of the ranges, the interactions, the success rates and the best settings neither."""
    cells = [
        cell(name, [value - lr / 100 * seed for seed, value in enumerate(values)], setting={"lr": lr})
        for name, values in (("none", NONE), ("custom", BUILTIN), ("builtin", BUILTIN))
        for lr in (0.1, 1.0)
    ]
    summary = summarize(StudyResults("demo", "none", (), tuple(cells), checks={"custom": "builtin"}))
    assert {found.variant for found in summary.usable_ranges} == {"none", "builtin"}
    assert {row.comparison.variant for row in summary.interactions} == {"builtin"}
    assert {rate.variant for rate in summary.rates if rate.p is not None} == {"builtin"}
    assert {best.variant: bool(best.comparisons) for best in summary.best_settings}["custom"] is False
    about = [sentence for sentence in verdict_sentences(summary) if "custom" in sentence]
    assert [sentence.split(" @ ")[0] for sentence in about] == ["custom", "custom"]
    assert all("gives the same results as builtin" in sentence for sentence in about)
