"""What a reader sees: digits, cells, captions and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.pairs import Spread
from bnbench.analysis.summary import summarize
from bnbench.reports.numbers import decimals_for, metric_text, spread_text, target_text
from bnbench.reports.sentences.runs import why_it_failed
from bnbench.reports.sentences.speed import speed_sentences
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.reports.tables.layers import layer_lists
from bnbench.reports.tables.table import Table
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, Outcome, RunRecord


def run(
    variant: str,
    seed: int,
    accuracy: float,
    outcome: Outcome = "finished",
    setting: Mapping[str, Any] | None = None,
) -> RunRecord:
    """A run of 100 steps with that accuracy, and a loss of 1 - accuracy, everywhere."""
    if outcome == "crashed":
        return RunRecord(
            variant, setting or {}, seed, "c", variant, outcome, error="ValueError: too small\n  trace"
        )
    numbers = {
        f"{split}_{name}": value
        for split in ("train", "val", "test")
        for name, value in (("loss", 1 - accuracy), ("accuracy", accuracy))
    }
    history = tuple(
        HistoryRow(50 * i, float(i), 2.5 * i, None, {"val_accuracy": accuracy * i / 2}) for i in range(3)
    )
    return RunRecord(
        variant, setting or {}, seed, "c", variant, outcome, None, 100, 100, 50, 5.0, 1234,
        numbers, numbers, 100, history, layers=("0: Linear(4, 2)",),
    )  # fmt: skip


def study(
    accuracies: Mapping[str, Sequence[float]],
    seeds: int = 5,
    targets: tuple[Target, ...] = (),
    baseline: str = "none",
) -> Summary:
    """Variants with the accuracy of each seed."""
    cells = tuple(
        Cell(name, {}, "c", tuple(range(seeds)), tuple(run(name, s, a) for s, a in enumerate(values)))
        for name, values in accuracies.items()
    )
    return summarize(StudyResults("demo", baseline, targets, cells))


FIVE = {"none": (0.950, 0.952, 0.949, 0.951, 0.950), "batch": (0.970, 0.971, 0.969, 0.972, 0.970)}


def table(summary: Summary, title: str) -> Table:
    return next(found for found in tables(summary) if found.title.startswith(title))


@pytest.mark.parametrize(
    ("values", "planned", "percent", "text"),
    [
        ([0.402, 0.412, 0.422], 3, False, "0.412 ± 0.010"),
        ([0.402, 0.412, 0.422], 5, False, "0.412 ± 0.010 (3 of 5)"),
        ([0.9712, 0.9742], 2, True, "97.27 ± 0.21"),
        ([0.41234567], 1, False, "0.4123"),
        ([0.9712], 3, True, "97.12 (1 of 3)"),
        ([], 3, False, "– (0 of 3)"),
        ([0.5, 0.5], 2, False, "0.5000 ± 0.0000"),
        ([0.1, 2.3, 2.3], 3, False, "1.6 ± 1.3"),
        ([100.0, 350.0], 2, False, "225 ± 177"),
        ([1.2e9, 1.4e9], 2, False, "1.30e+09 ± 1.4e+08"),
        ([1.2e-7, 1.4e-7], 2, False, "1.30e-07 ± 1.4e-08"),
        ([0.25, 0.25 + 1e-9], 2, False, "0.250000 ± 7e-10"),
    ],
)
def test_spread_has_the_digits_that_its_scatter_allows(
    values: list[float], planned: int, percent: bool, text: str
) -> None:
    assert spread_text(Spread.of(values), planned, percent=percent) == text


def test_decimals_follow_the_rounded_scatter() -> None:
    # 0.0996 is 0.10 in two digits, so two decimals and not three
    assert [decimals_for(s, False) for s in (0.0996, 0.0994, 1.0, 99.0, 1e-12)] == [2, 3, 1, 0, 6]


def test_metric_and_target_words() -> None:
    assert metric_text("val_accuracy", 0.97123) == "97.12%"
    assert metric_text("train_loss", 0.12345) == "0.1235"
    assert metric_text("val_loss", math.nan) == "nan"
    assert target_text(Target("val_accuracy", 0.97)) == "val_accuracy >= 97%"
    assert target_text(Target("val_loss", 0.1)) == "val_loss <= 0.1"


def test_accuracy_is_in_percent_and_the_caption_says_what_the_sign_means() -> None:
    found = table(study(FIVE), "Accuracy (%)")
    assert found.rows[0] == ("none", "last step", *["95.04 ± 0.11"] * 3)
    assert "Mean ± standard deviation (n-1) over 5 seeds" in found.caption
    assert "k of n" not in found.caption


def test_difference_in_percentage_points() -> None:
    # differences 2.0 1.9 2.0 2.1 2.0: mean 2.0, std 0.0707, half width 2.776 * 0.0707 / √5 = 0.0878
    found = table(study(FIVE), "Difference from none")
    row = next(row for row in found.rows if row[1] == "test accuracy")
    assert row == ("batch", "test accuracy", "+2.000 pp [+1.912, +2.088]", "5", "<0.0001", "better")
    checks = table(study(FIVE), "Robustness checks: difference from none")
    row = next(row for row in checks.rows if row[1] == "test accuracy")
    # Welch: standard errors 0.0510 and 0.0510, 8 degrees of freedom: 2.0 ± 2.306 * 0.0721
    assert row == (
        "batch",
        "test accuracy",
        "[+1.83, +2.17]",
        "+0.81",
        "–",
        "100% [57%, 100%]",
        "0.119 pp (0.071 to 0.342)",  # times √(4 / 11.143) and √(4 / 0.48442)
    )
    row = next(row for row in found.rows if row[1] == "test loss")
    assert row[2] == "-0.02000 [-0.02088, -0.01912]"


def test_a_wide_interval_hides_no_effect() -> None:
    # differences +40 +0.6 -30 pp: mean 3.53, std 35.09, half width 4.30265 * 35.09 / √3 = 87.17
    summary = study({"none": (0.5, 0.6, 0.9), "batch": (0.9, 0.606, 0.6)}, seeds=3)
    row = next(row for row in table(summary, "Difference").rows if row[1] == "test accuracy")
    assert row[2] == "+3.5 pp [-83.6, +90.7]"


def test_baseline_stands_first_wherever_the_study_has_it() -> None:
    found = table(study({"batch": FIVE["batch"], "none": FIVE["none"]}), "Loss")
    assert [row[0] for row in found.rows] == ["none", "none", "batch", "batch"]


def test_a_number_from_fewer_runs_says_so_and_the_caption_too() -> None:
    found = table(study({"none": FIVE["none"], "batch": FIVE["batch"][:4]}), "Loss")
    assert found.rows[2][2].endswith("(4 of 5)")
    assert "(k of n)" in found.caption
    differences = table(study({"none": FIVE["none"], "batch": FIVE["batch"][:4]}), "Difference")
    assert differences.rows[0][3] == "4 of 5"


def test_what_no_run_has_a_number_of_has_no_difference_and_counts_no_lost_runs() -> None:
    summary = study(FIVE)
    cells = [
        Cell(variant.variant, {}, "c", variant.seeds, tuple(
            replace(run, final={**run.final, "val_loss": math.nan}, best={**run.best, "val_loss": math.nan})
            for run in variant.runs
        ))
        for variant in summary.variants
    ]  # fmt: skip
    late = summarize(StudyResults("demo", "none", (), tuple(cells)))
    loss = table(late, "Loss")
    assert {row[3] for row in loss.rows} == {"–"}
    assert "(k of n)" not in loss.caption
    found = table(late, "Difference from none")
    assert [row[1] for row in found.rows] == ["test loss", "test accuracy", "val accuracy"]
    assert "No run has a number of: val loss." in found.caption
    assert "No run has" not in table(summary, "Difference from none").caption


def test_one_seed_has_no_sign() -> None:
    summary = study({"none": [0.95], "batch": [0.97]}, seeds=1)
    found = table(summary, "Accuracy")
    assert found.rows[0][2:] == ("95.00",) * 3
    assert "One seed" in found.caption
    row = next(row for row in table(summary, "Difference").rows if row[1] == "test accuracy")
    assert row == ("batch", "test accuracy", "+2.00 pp", "1", "–", "too few seeds")


def test_convergence_says_how_many_reached_and_when() -> None:
    summary = study(
        {"none": (0.9, 0.9, 0.9), "batch": (0.97, 0.9, 0.97)},
        seeds=3,
        targets=(Target("val_accuracy", 0.95),),
    )
    found = table(summary, "Time to target: val_accuracy >= 95%")
    assert found.rows[0] == ("none", "0 of 3", "not by step 100", "–", "–")
    assert found.rows[1] == ("batch", "2 of 3", "100 (100 to >100)", "2", "5.00 (5.00 to never)")
    assert "Evaluated every 50 steps" in found.caption


def test_convergence_of_a_study_that_is_not_complete() -> None:
    summary = study({"none": (0.97,)}, seeds=3, targets=(Target("val_accuracy", 0.95),))
    assert table(summary, "Time to target").rows[0][1] == "1 of 1 (3 planned)"


def broken() -> Summary:
    runs = (
        run("batch", 0, 0.97),
        *(run("batch", s, 0, "crashed") for s in (1, 2)),
        run("batch", 3, 0.1, "stuck_at_chance"),
    )
    none = tuple(run("none", s, 0.95) for s in range(4))
    cells = (Cell("none", {}, "c", tuple(range(4)), none), Cell("batch", {}, "c", tuple(range(4)), runs))
    return summarize(StudyResults("demo", "none", (), cells))


def test_runs_that_failed_are_named_with_their_reason() -> None:
    found = table(broken(), "Runs that failed")
    assert found.rows == (
        ("batch", "1, 2", "crashed", "ValueError: too small"),
        ("batch", "3", "stuck at chance", "ended with val_loss 0.9000, val_accuracy 10.00%"),
    )
    assert not any(found.title == "Runs that failed" for found in tables(study(FIVE)))


def test_outcomes_are_counted() -> None:
    assert [row[3:] for row in table(broken(), "Cost").rows] == [("4", "0", "0"), ("1", "1", "2")]
    assert table(broken(), "Cost").columns[3:] == ("finished", "stuck at chance", "crashed")
    assert table(broken(), "Cost").rows[1][1:3] == ("1,234", "50.0 (2 of 4)")


def test_why_a_run_is_not_finite() -> None:
    lost = RunRecord(
        "a", {}, 0, "c", "a", "not_finite", steps=50, planned_steps=100, final={"val_loss": math.nan}
    )
    assert why_it_failed(lost) == "loss or weights not finite, seen at step 50 of 100"
    assert why_it_failed(run("a", 0, 0.9)) == ""


def test_a_crashed_variant_keeps_its_row() -> None:
    runs = tuple(run("batch", s, 0, "crashed") for s in range(2))
    summary = summarize(StudyResults("demo", "batch", (), (Cell("batch", {}, "c", (0, 1), runs),)))
    assert table(summary, "Loss").rows[0] == ("batch", "last step", *["– (0 of 2)"] * 3)


def test_layers_are_listed_once_for_variants_that_share_them() -> None:
    assert layer_lists(study(FIVE)).rows == (("none, batch", "0: Linear(4, 2)"),)


def test_sentence_of_a_clear_difference() -> None:
    assert verdict_sentences(study(FIVE)) == [
        "batch is better than none in test accuracy: 95.04% → 97.04%, +2.00 points (95% interval 1.91 to 2.09, "
        "p <0.0001, 5 seeds)."
    ]


def test_sentence_without_a_detectable_difference_says_what_would_have_been_seen() -> None:
    # differences +1 -1 0 pp: std 1, half width 2.48; 3.264 pp detectable, times √(2/7.378) and √(2/0.05064)
    sentence = verdict_sentences(study({"none": (0.95, 0.95, 0.95), "batch": (0.96, 0.94, 0.95)}, seeds=3))[0]
    assert sentence == (
        "batch against none is undecided in test accuracy: 95.0% → 95.0%, +0.0 points (95% interval -2.5 to +2.5, "
        "p 1.00, 3 seeds). With 3 seeds only differences of about 3.3 points or more are found reliably (80% power)."
    )


def test_sentence_of_equal_runs() -> None:
    sentence = verdict_sentences(study({"none": FIVE["none"], "batch": FIVE["none"]}))[0]
    assert sentence.endswith("95.04% → 95.04%, +0.00 points (5 seeds); equal on every seed.")


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (1, "95.00% → 97.00%, +2.00 points (1 seed)."),
        (2, "95.1% → 97.0%, +2.0 points (2 seeds)."),
    ],
)
def test_sentence_with_too_few_seeds(seeds: int, words: str) -> None:
    sentence = verdict_sentences(study({k: v[:seeds] for k, v in FIVE.items()}, seeds=seeds))[0]
    assert sentence.startswith("batch against none: no verdict on test accuracy with fewer than 3 seeds: ")
    assert sentence.endswith(words)


def test_sentence_names_the_runs_that_failed() -> None:
    sentence = verdict_sentences(broken())[0]
    assert sentence.startswith(
        "batch against none: no verdict on test accuracy, because 2 of 4 runs of batch crashed; in the 2 pairs left, "
        "-41.5 points. "
    )
    # Fisher's exact test of 1 of 2 and 4 of 4: 2 of the 6 tables are as unlikely
    assert sentence.endswith(
        "batch trained in 1 of 2 runs (1 stuck at chance), none in 4 of 4: Fisher's exact test, p 0.33."
    )


def test_sentence_of_a_sweep_speaks_of_the_best_settings() -> None:
    cells = []
    for variant, lr, accuracy in (
        ("none", 0.1, 0.9),
        ("none", 1, 0.8),
        ("batch", 0.1, 0.91),
        ("batch", 1, 0.95),
    ):
        setting = {"lr": lr}
        runs = tuple(run(variant, s, accuracy + s * lr / 1000, setting=setting) for s in range(5))
        cells.append(Cell(variant, setting, "c", tuple(range(5)), runs))
    summary = summarize(StudyResults("demo", "none", (), tuple(cells)))
    assert verdict_sentences(summary)[0].startswith(
        "batch @ lr=1 is better than none @ lr=0.1 in test accuracy, each at its best setting (chosen with 2 other "
        "seeds): 90.03% → 95.30%, +5.27 points (95% interval 5.05 to 5.49, p <0.0001, 3 seeds)"
    )
    best = table(summary, "Best settings")
    assert [(row[0], row[2]) for row in best.rows] == [("none @ lr=0.1", "2"), ("batch @ lr=1", "2")]
    assert "Every variant had the same number of trials: 2 settings." in best.caption
    assert speed_sentences(summary) == []
    best = table(summary, "Difference from none, each at its best setting")
    assert [row[1] for row in best.rows] == ["test loss", "test accuracy"]
