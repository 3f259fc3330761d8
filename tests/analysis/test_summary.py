"""The summary of a study: nothing that was planned is left out, and files hold no NaN."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.rows import rows
from bnbench.analysis.serial import as_json
from bnbench.analysis.summary import summarize
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, Outcome, RunRecord

TARGET = Target("val_accuracy", 0.9)


def run(
    variant: str,
    seed: int,
    loss: float,
    outcome: Outcome = "finished",
    setting: Mapping[str, Any] | None = None,
    environment: str = "cpu",
) -> RunRecord:
    """A run of 100 steps in 5 s whose every loss is `loss` and every accuracy 1 - loss."""
    if outcome == "crashed":
        return RunRecord(variant, setting or {}, seed, "c", variant, outcome, error="ValueError: no\n  trace")
    numbers = {
        f"{split}_{name}": value
        for split in ("train", "val", "test")
        for name, value in (("loss", loss), ("accuracy", 1 - loss))
    }
    history = tuple(
        HistoryRow(50 * i, float(i), 2.5 * i, None, {"val_accuracy": 0.1 if i == 0 else 1 - loss})
        for i in range(3)
    )
    return RunRecord(
        variant, setting or {}, seed, "c", variant, outcome, None, 100, 100, 50, 5.0, 42,
        numbers, {name: value / 2 for name, value in numbers.items()}, 50, history,
        notes=("one sample was merged",), layers=("0: Linear",), environment={"device": environment},
    )  # fmt: skip


def study(*cells: Cell, targets: tuple[Target, ...] = (TARGET,)) -> Summary:
    return summarize(StudyResults("demo", "none", targets, cells))


def cell(variant: str, *runs: RunRecord, setting: Mapping[str, Any] | None = None, seeds: int = 3) -> Cell:
    return Cell(variant, setting or {}, "c", tuple(range(seeds)), runs)


NONE = cell("none", *(run("none", s, 0.20 + s / 100) for s in range(3)))
BATCH = cell("batch", *(run("batch", s, 0.05 + s / 100) for s in range(3)))


def test_means_and_standard_deviations() -> None:
    variant = study(NONE, BATCH).variants[0]
    spread = variant.spreads["final", "val_loss"]  # 0.20, 0.21, 0.22
    assert (spread.mean, spread.std, spread.n) == (pytest.approx(0.21), pytest.approx(0.01), 3)
    assert variant.spreads["best", "test_loss"].mean == pytest.approx(0.105)
    assert variant.seconds_per_step.mean == pytest.approx(0.05)
    assert (variant.num_parameters, variant.steps_per_epoch, variant.layers) == (42, 50, ("0: Linear",))


def test_every_metric_is_compared_with_the_baseline() -> None:
    summary = study(NONE, BATCH)
    assert {c.variant for c in summary.comparisons} == {"batch"}
    assert len(summary.comparisons) == 2 * 6  # final and best, loss and accuracy of train, val and test
    best = next(c for c in summary.comparisons if (c.metric, c.at) == ("test_loss", "best"))
    assert best.difference == pytest.approx(-0.075)


def test_outcomes_are_counted_and_nothing_is_dropped() -> None:
    mixed = cell(
        "batch",
        run("batch", 0, 0.05),
        run("batch", 1, math.nan, "not_finite"),
        run("batch", 2, 0, "crashed"),
        seeds=4,
    )
    variant = study(NONE, mixed).variants[1]
    assert variant.outcomes == {
        "finished": 1, "stuck_at_chance": 0, "worse_than_at_start": 0, "not_finite": 1, "crashed": 1, "missing": 1
    }  # fmt: skip
    spread = variant.spreads["final", "val_loss"]
    assert (spread.n, spread.num_nonfinite) == (1, 1)
    assert (variant.targets[0].k, variant.targets[0].n) == (1, 3)


def test_finite_numbers_of_a_run_that_did_not_finish_stay_in_the_mean() -> None:
    mixed = cell("batch", run("batch", 0, 0.1), run("batch", 1, 0.9, "stuck_at_chance"))
    assert study(NONE, mixed).variants[1].spreads["final", "val_loss"].mean == pytest.approx(0.5)


def test_a_variant_whose_every_run_crashed_keeps_its_place() -> None:
    summary = study(NONE, cell("batch", *(run("batch", s, 0, "crashed") for s in range(3))))
    variant = summary.variants[1]
    assert (variant.label, variant.outcomes["crashed"], variant.num_parameters, variant.layers) == (
        "batch",
        3,
        None,
        (),
    )
    assert {c.verdict for c in summary.comparisons} == {"pairs_lost", None}


def test_a_study_without_any_run_is_summarised() -> None:
    summary = study(cell("none"), cell("batch"))
    assert [variant.outcomes["missing"] for variant in summary.variants] == [3, 3]
    assert not summary.warnings


def test_a_target_that_no_run_reaches_is_said() -> None:
    summary = study(NONE, BATCH, targets=(TARGET, Target("val_accuracy", 0.999)))
    assert [variant.targets[0].k for variant in summary.variants] == [0, 3]
    assert len(summary.warnings) == 1
    assert "no run reached the target val_accuracy 0.999" in summary.warnings[0]


def test_runs_of_different_machines_are_warned_of() -> None:
    other = cell("batch", run("batch", 0, 0.05, environment="cuda"))
    assert any("not all trained under the same circumstances" in text for text in study(NONE, other).cautions)
    assert not study(NONE, BATCH).cautions
    assert not study(NONE, BATCH).warnings


def test_a_caution_of_many_settings_is_said_once_with_their_number() -> None:
    def swept(lr: float, caution: str) -> Cell:
        runs = [
            replace(run("batch", seed, 0.05, setting={"lr": lr}), cautions=(caution,)) for seed in range(3)
        ]
        return cell("batch", *runs, setting={"lr": lr})

    summary = study(
        NONE, swept(0.1, "batch: a share is left."), swept(1.0, "batch @ lr=1.0: a share is left.")
    )
    assert summary.cautions == ("batch (at 2 settings): a share is left.",)
    alone = study(
        NONE, cell("batch", replace(run("batch", 0, 0.05), cautions=("batch: a share is left.", "all: x")))
    )
    assert alone.cautions == ("batch: a share is left.", "all: x")


def test_notes_are_collected_once() -> None:
    assert study(NONE, BATCH).notes == ("one sample was merged",)


def sweep(*, diverged: bool = False) -> Summary:
    """none is best at lr 0.1 (0.2 against 0.3); batch at lr 1 (0.1 against 0.15), unless a run diverged there."""
    losses = {("none", 0.1): 0.2, ("none", 1.0): 0.3, ("batch", 0.1): 0.15, ("batch", 1.0): 0.1}
    cells = []
    for (variant, lr), loss in losses.items():
        setting = {"optimizer.lr": lr}
        runs = [run(variant, s, loss + s / 100, setting=setting) for s in range(3)]
        if diverged and (variant, lr) == ("batch", 1.0):
            runs[0] = run(variant, 0, 0.1, "not_finite", setting)
        cells.append(cell(variant, *runs, setting=setting))
    return study(*cells)


def test_a_sweep_compares_at_the_same_setting() -> None:
    found = [c for c in sweep().comparisons if (c.metric, c.at) == ("test_loss", "final")]
    assert [(c.label, c.baseline_label) for c in found] == [
        ("batch @ optimizer.lr=0.1", "none @ optimizer.lr=0.1"),
        ("batch @ optimizer.lr=1.0", "none @ optimizer.lr=1.0"),
    ]
    assert [c.difference for c in found] == [pytest.approx(-0.05), pytest.approx(-0.2)]


def test_a_sweep_compares_each_variant_at_its_best_setting() -> None:
    none, batch = sweep().best_settings
    assert (none.label, batch.label) == ("none @ optimizer.lr=0.1", "batch @ optimizer.lr=1.0")
    assert not none.comparisons
    final = next(c for c in batch.comparisons if (c.metric, c.at) == ("test_loss", "final"))
    assert final.difference == pytest.approx(0.1 - 0.2)
    assert final.baseline_setting == {"optimizer.lr": 0.1}


def test_a_setting_where_a_run_diverged_is_not_the_best() -> None:
    assert sweep(diverged=True).best_settings[1].setting == {"optimizer.lr": 0.1}


def test_the_best_setting_is_chosen_without_a_look_at_the_test_set() -> None:
    def opposite(lr: float, val_loss: float) -> Cell:
        setting = {"optimizer.lr": lr}
        first = run("none", 0, val_loss, setting=setting)
        return cell(
            "none", replace(first, final={**first.final, "test_loss": 1 - val_loss}), setting=setting, seeds=1
        )

    assert study(opposite(0.1, 0.4), opposite(1.0, 0.2)).best_settings[0].setting == {"optimizer.lr": 1.0}


def test_one_setting_is_no_sweep() -> None:
    assert not study(NONE, BATCH).best_settings


def test_a_setting_without_the_baseline_is_warned_of() -> None:
    baselines = [cell("none", *NONE.records, setting={"optimizer.lr": lr}) for lr in (1, 2)]
    summary = study(*baselines, cell("batch", *BATCH.records, setting={"optimizer.lr": 9}))
    assert not summary.comparisons
    assert any("optimizer.lr=9: the baseline none has no runs" in warning for warning in summary.warnings)


def test_json_is_strict_and_has_what_the_contract_names() -> None:
    mixed = cell(
        "batch", run("batch", 0, math.nan, "not_finite"), run("batch", 1, 0.02), run("batch", 2, 0, "crashed")
    )
    values = json.loads(json.dumps(as_json(study(NONE, mixed)), allow_nan=False))
    assert (values["schema_version"], values["name"], values["baseline"]) == (1, "demo", "none")
    assert values["target"] == {"metric": "val_accuracy", "value": 0.9}
    diverged, finished, crashed = values["variants"][1]["runs"]
    assert diverged["final"]["val_loss"] is None
    assert diverged["steps_to_target"] is None
    assert (finished["outcome"], finished["steps"], finished["epochs"], finished["steps_to_target"]) == (
        "finished", 100, 2.0, 50,
    )  # fmt: skip
    assert finished["final"]["test_accuracy"] == pytest.approx(0.98)
    assert (crashed["error"], crashed["final"]["val_loss"]) == ("ValueError: no\n  trace", None)
    comparison = values["comparisons"][0]
    assert {"variant", "baseline", "metric", "at", "difference", "ci_low", "ci_high", "n", "verdict"} <= set(
        comparison
    )
    assert (comparison["n"], comparison["n_planned"], comparison["ci_low"]) == (1, 3, None)


def test_rows_are_one_a_planned_run() -> None:
    mixed = cell("batch", run("batch", 0, 0.02), run("batch", 2, 0, "crashed"))
    found = rows(study(NONE, mixed))
    assert [(row["variant"], row["seed"], row["outcome"]) for row in found[3:]] == [
        ("batch", 0, "finished"), ("batch", 1, "missing"), ("batch", 2, "crashed"),
    ]  # fmt: skip
    assert (found[3]["steps_to_target"], found[3]["final_val_loss"]) == (50, pytest.approx(0.02))
    assert (found[5]["error"], found[5]["final_val_loss"]) == ("ValueError: no", None)


def test_no_torch_and_no_scipy_until_they_are_needed() -> None:
    code = (
        "import sys, bnbench.analysis.summary, bnbench.reports.console, bnbench.reports.formats;"
        "print([name for name in ('torch', 'scipy', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
