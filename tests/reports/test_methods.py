"""The methods paragraph says what the study did, and nothing that it did not do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bnbench.analysis.summary import summarize
from bnbench.reports.sentences.methods import methods_paragraph
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin, Target
from tests.fabricated import cell, record, results
from tests.fabricated_extremes import STUDIES

SETTINGS: dict[str, Any] = {
    "name": "demo",
    "dataset": {"name": "mnist", "path": "/home/me/mnist"},
    "model": {"name": "mlp", "hidden": [64]},
    "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": False},
    "schedule": {"name": "constant", "warmup_epochs": 0.0},
    "loss": {"name": "cross_entropy", "label_smoothing": 0.0},
    "batch_size": 32,
    "epochs": 5,
    "normalize": "unit",
    "precision": "float32",
    "evaluate_every": "epoch",
    "variants": {"none": {"norm": {"name": "none"}}, "group": {"norm": {"name": "group", "groups": 8}}},
}
SAMPLES = {"train": 54000, "val": 6000, "test": 10000}
ENVIRONMENT = {
    "device": "cpu",
    "device_name": "AMD EPYC",
    "num_threads": 1,
    "torch": "2.14.1",
    "bnbench": "0.1.0",
}


def seeds(variant: str, ends: Sequence[float], **fields: Any) -> Any:
    made: dict[str, Any] = {"num_samples": SAMPLES, "environment": ENVIRONMENT} | fields
    return cell(variant, [record(variant, s, (2.3, 1.0, end), **made) for s, end in enumerate(ends)])


def paragraph(made: StudyResults, **study: Any) -> str:
    return methods_paragraph(summarize(replace(made, study={**SETTINGS, **study})))


FIVE = results(
    seeds("none", (0.5, 0.6, 0.7, 0.6, 0.5)),
    seeds("group", (0.3, 0.5, 0.4, 0.4, 0.2)),
    targets=(Target("val_accuracy", 0.9),),
)


def test_the_data_the_network_and_the_training() -> None:
    text = paragraph(FIVE)
    assert (
        "the network mlp (hidden [64]) on the data set mnist (54,000 training, 6,000 validation and 10,000"
        in text
    )
    assert "/home/me" not in text
    assert "compared group with the baseline none (none: norm none; group: norm group (groups 8))" in text
    assert "took 5 epochs (20 steps) with batch size 32, the optimizer sgd (lr 0.1, nesterov no)" in text
    assert "divided by their largest absolute value" in text


def test_the_seeds_the_test_and_what_it_can_find() -> None:
    text = paragraph(FIVE)
    assert "trained with 5 seeds. A seed sets the initial weights, the order of the batches" in text
    assert (
        "95% confidence intervals, from the paired t test (two-sided). The p value needs no correction"
        in text
    )
    # accuracies differ by 2, 1, 3, 2, 3 points: std 0.837; the noncentral t with 5 pairs finds 1.68 std = 1.4 points
    assert "a true difference of 1.4 percentage points is found with 80% power" in text
    assert (
        "time to target (val_accuracy >= 90%) is the first evaluation that reaches it, evaluated after every"
        in text
    )
    assert (
        "All 10 runs finished. Software: bnbench 0.1.0, PyTorch 2.14.1. Hardware: AMD EPYC (1 thread)."
        in text
    )
    assert "margin" not in text
    assert "looks" not in text


def test_holm_counts_the_comparisons() -> None:
    third = seeds("batch", (0.35, 0.51, 0.46, 0.44, 0.27))
    text = paragraph(replace(FIVE, cells=(*FIVE.cells, third)))
    assert "corrected by Holm's method over 2 comparisons; the level is 5%" in text


def test_one_seed_is_described_without_a_test() -> None:
    text = paragraph(results(seeds("none", (0.5,)), seeds("group", (0.4,))))
    assert "trained with 1 seed." in text
    assert "with fewer than 3 seeds no test is made" in text
    for word in ("Holm", "paired", "power", "target"):
        assert word not in text


def test_a_margin_is_an_equivalence_test() -> None:
    text = paragraph(replace(FIVE, margin=Margin("test_accuracy", 0.002)))
    assert "in test accuracy of less than 0.2 percentage points counts as none: equivalence is tested" in text


def test_a_check_is_not_a_comparison() -> None:
    made = replace(
        FIVE, cells=(*FIVE.cells, seeds("own", (0.3, 0.5, 0.4, 0.4, 0.2))), checks={"own": "group"}
    )
    text = paragraph(made)
    assert "own is a check of group, declared before training" in text
    assert "needs no correction, as there is one comparison" in text


def test_a_swept_value_is_not_given_as_one() -> None:
    def at(variant: str, lr: float) -> Cell:
        ends = (0.5 + seed / 30 + lr for seed in range(3))
        setting = {"optimizer.lr": lr}
        runs = [record(variant, s, (2.3, 1.0, end), setting=setting) for s, end in enumerate(ends)]
        return cell(variant, runs, setting)

    cells = [at(variant, lr) for variant in ("none", "group") for lr in (0.1, 0.2)]
    text = paragraph(results(*cells), sweep={"optimizer.lr": [0.1, 0.2]})
    assert "the optimizer sgd (lr swept, nesterov no)" in text
    assert "each setting of the sweep (optimizer.lr in [0.1, 0.2])" in text
    assert "the same seeds chose and compared" in text


def test_seeds_auto_names_its_looks() -> None:
    def looked_at(variant: str, end: float) -> Cell:
        return replace(seeds(variant, [end + seed / 50 for seed in range(5)]), seeds=tuple(range(20)))

    cells = [looked_at("none", 0.9), looked_at("group", 0.1)]
    text = paragraph(replace(results(*cells), looks=(5, 8, 12, 20)))
    assert "sequential: up to 20 for each variant, with looks at 5, 8, 12 and 20 seeds fixed before" in text
    assert "corrected for the looks (an alpha-spending bound); there is one comparison" in text
    assert "power" not in text


def test_runs_that_failed_are_counted() -> None:
    lost = cell("group", [record("group", 0), record("group", 1, outcome="crashed"), record("group", 2)])
    text = paragraph(replace(FIVE, cells=(FIVE.cells[0], lost)))
    assert "Of 8 planned runs, 7 finished and 1 crashed; none was left out" in text


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_study_has_one(name: str) -> None:
    text = methods_paragraph(summarize(STUDIES[name]()))
    assert text.endswith(".")
    assert "None" not in text
    assert "unknown" not in text
