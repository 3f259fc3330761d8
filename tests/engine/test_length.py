"""Runs of a number of steps, whose last epoch need not be whole, and of none at all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import bnbench
from bnbench.api.comparison import Comparison
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.rehearsal.case import Case
from bnbench.reports.sentences.headline import headline
from bnbench.reports.sentences.methods import methods_paragraph
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.plan import RunSpec

STUDY: dict[str, Any] = {
    "dataset": "digits",
    "model": {"name": "mlp", "hidden": [8]},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "batch_size": 100,
    "max_train_samples": 950,
    "seeds": 2,
    "variants": ["none", "batch"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Comparison]:
    """Ten steps an epoch: two epochs, 20 steps, 14 steps, and none, which are to reach a target that chance reaches."""
    folder = tmp_path_factory.mktemp("lengths")
    target = {"metric": "val_accuracy", "value": 0.01}
    return {
        text: bnbench.compare(STUDY | {"target": target, **length}, output=folder / text)
        for text, length in {
            "two epochs": {"epochs": 2},
            "20 steps": {"steps": 20},
            "14 steps": {"steps": 14},
            "a look": {"epochs": 0},
        }.items()
    }


def records(comparison: Comparison) -> list[Any]:
    return list(comparison.summary.runs)


def test_steps_are_the_first_steps_of_as_many_epochs(runs: dict[str, Comparison]) -> None:
    for whole, same, part in zip(
        *(records(runs[text]) for text in ("two epochs", "20 steps", "14 steps")), strict=True
    ):
        assert len(whole.step_losses) == whole.planned_steps == 20
        assert same.step_losses == whole.step_losses
        assert same.final == whole.final
        assert part.step_losses == whole.step_losses[:14]
        assert [row.step for row in part.history] == [0, 10, 14]
        assert part.history[-1].epoch == 1.4
        assert (part.steps, part.planned_steps, part.steps_per_epoch) == (14, 14, 10)


def test_the_schedule_ends_with_the_last_step(tmp_path: Path) -> None:
    """A cosine over 14 steps is 0 after the last: its factors are those of 14 steps, not of two epochs."""
    from bnbench.optim import schedules

    cosine = schedules.get("cosine").factory
    assert cosine(14, 10)(14) == pytest.approx(0.0)
    study = STUDY | {
        "schedule": "cosine",
        "optimizer": {"name": "sgd", "lr": 1e-3},
        "seeds": 1,
        "variants": ["none"],
    }
    short = records(bnbench.compare(study | {"steps": 14}, output=tmp_path / "s"))[0]
    whole = records(bnbench.compare(study | {"epochs": 2}, output=tmp_path / "e"))[0]
    assert short.step_losses[:1] == whole.step_losses[:1]
    assert short.step_losses[5] != whole.step_losses[5]


def test_a_look_is_no_training(runs: dict[str, Comparison], vocabulary: Vocabulary) -> None:
    """Its numbers and its weights are the initial ones, it is neither stuck nor sooner, and the words say so."""
    looked = runs["a look"]
    for record in records(looked):
        assert (record.outcome, record.steps, record.best_step) == ("finished", 0, 0)
        assert record.trained is None
        assert [row.step for row in record.history] == [0]
        assert record.final["val_loss"] == record.history[0].metrics["val_loss"]
    (settings,) = load_study(STUDY | {"variants": ["batch"]}, [], vocabulary).variants.values()
    initial = build_model(settings, Sizes((1, 8, 8), 10), 0).state_dict()
    (path,) = looked.folder.glob("runs/batch-*/seed-0/checkpoint.safetensors")
    kept = load_file(path)
    assert all(np.array_equal(kept[name], value.numpy()) for name, value in initial.items())
    text = " ".join(headline(looked.summary))
    assert text.startswith("No network was trained (no steps were planned)")
    assert "sooner" not in text
    assert all(rate.n == 0 for rate in looked.summary.rates)
    assert not any("reached the target" in warning for warning in looked.summary.warnings)
    methods = methods_paragraph(looked.summary)
    assert "No network was trained: every number describes the initial weights." in methods
    assert "0 epochs" not in methods


def test_a_look_at_a_sweep_finds_no_usable_range(tmp_path: Path) -> None:
    study = STUDY | {"epochs": 0, "sweep": {"optimizer.lr": [0.1, 1.0]}}
    assert bnbench.compare(study, output=tmp_path / "out").summary.usable_ranges == ()


def test_the_batches_of_a_run(vocabulary: Vocabulary) -> None:
    """Oracle: 950 samples in batches of 100 are nine of 100 and one of 50, epoch after epoch."""

    def sizes(**length: int) -> Counter[int]:
        (settings,) = load_study(STUDY | {"variants": ["none"], **length}, [], vocabulary).variants.values()
        case = Case((run_of(settings),), Sizes((1, 8, 8), 10), 950, 100)
        return case.batches_of_a_run()

    assert sizes(epochs=2) == sizes(steps=20) == {100: 18, 50: 2}
    assert sizes(steps=14) == {100: 13, 50: 1}
    assert sizes(steps=9) == {100: 9}
    assert not sizes(epochs=0)


def run_of(settings: Settings) -> RunSpec:
    return RunSpec("v", {}, 0, "cell", settings)


def test_check_plans_the_steps() -> None:
    checked = bnbench.check(STUDY | {"steps": 14})
    assert [cell.steps for cell in checked.estimates] == [14, 14]
    looked = bnbench.check(STUDY | {"steps": 0})
    assert [cell.steps for cell in looked.estimates] == [0, 0]
    assert all(cell.seconds == cell.evaluation_seconds for cell in looked.estimates)
