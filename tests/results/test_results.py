"""The results folder: nothing lost, nothing half-written, nothing guessed."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from bnbench.base.errors import ResultsError
from bnbench.results import ResultsFolder, files
from bnbench.study import Study, Vocabulary, load_study
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.records import HistoryRow, RunRecord

Make = Callable[..., tuple[ResultsFolder, Study, list[RunSpec]]]


@pytest.fixture
def make(tmp_path: Path, vocabulary: Vocabulary) -> Make:
    """A folder opened for a small study: two variants, two seeds."""

    def opened(*overrides: str) -> tuple[ResultsFolder, Study, list[RunSpec]]:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\nseeds: 2\n"
            "variants: {a: {}, b: {norm: batch}}\ntarget: {metric: val_accuracy, value: 0.9}\n"
        )
        study = load_study(path, overrides, vocabulary)
        runs = make_plan(study, lambda settings: None)
        folder = ResultsFolder(tmp_path / "out")
        folder.open_for(study, runs)
        return folder, study, runs

    return opened


def record(run: RunSpec, **changes: Any) -> RunRecord:
    metrics = {"train_loss": 0.1, "val_loss": 1 / 3, "val_accuracy": 0.75}
    made = RunRecord(
        variant=run.variant,
        setting=run.setting,
        seed=run.seed,
        cell=run.cell,
        norm="none",
        outcome="finished",
        steps=2,
        planned_steps=2,
        steps_per_epoch=2,
        train_seconds=0.5,
        num_parameters=7,
        final=metrics,
        best=metrics,
        best_step=2,
        history=(HistoryRow(0, 0.0, 0.0, None, metrics), HistoryRow(2, 1.0, 0.5, 0.2, metrics)),
        step_losses=(0.5, 0.125),
        notes=("a note",),
        layers=("head: Linear",),
        environment={"device": "cpu"},
    )
    return replace(made, **changes)


def test_what_is_saved_is_read_back(make: Make) -> None:
    folder, study, runs = make()
    saved = [record(run) for run in runs]
    for run, item in zip(runs, saved, strict=True):
        folder.save(run, item, {"w": np.arange(3, dtype=np.float32)})
    results = folder.load()
    assert (results.name, results.baseline, results.targets) == ("s", "a", study.targets)
    assert [cell.label for cell in results.cells] == ["a", "b"]
    assert [item for cell in results.cells for item in cell.records] == [
        saved[0],
        saved[2],
        saved[1],
        saved[3],
    ]
    assert results.study["variants"]["a"] == {"norm": {"name": "none"}}
    weights = load_file(next(folder.path.glob("runs/a-*/seed-0/checkpoint.safetensors")))
    assert weights["w"].tolist() == [0, 1, 2]


def test_numbers_that_are_not_finite_are_null_on_disk_and_nan_in_memory(make: Make) -> None:
    folder, _, runs = make()
    folder.save(
        runs[0],
        record(runs[0], outcome="not_finite", final={"val_loss": math.nan, "test_loss": math.inf}),
        None,
    )
    (path,) = folder.path.glob("runs/a-*/seed-0/run.json")
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["final"] == {
        "val_loss": None,
        "test_loss": None,
    }
    (back,) = folder.load().cells[0].records
    assert math.isnan(back.final["val_loss"])
    assert back.outcome == "not_finite"


def test_a_changed_setting_makes_other_runs_and_never_mixes(make: Make) -> None:
    folder, _, runs = make()
    for run in runs:
        folder.save(run, record(run), None)
    with pytest.raises(ResultsError, match="holds the answer to another question"):
        make("epochs=7")
    assert all(folder.has(run) for run in runs)
    for run in runs:
        folder.save(replace(run, cell="0123456789ab"), record(run, cell="0123456789ab", steps=7), None)
    assert folder.other_runs() == 4
    assert [item.steps for cell in folder.load().cells for item in cell.records] == [2] * 4
    folder, _, again = make("seeds=3")
    assert [folder.has(run) for run in again] == [True] * 4 + [False] * 2


def test_a_crashed_run_is_kept_and_tried_again(make: Make) -> None:
    folder, _, runs = make()
    folder.save(runs[0], record(runs[0], outcome="crashed", error="boom"), None)
    assert not folder.has(runs[0])
    assert folder.load().cells[0].records[0].error == "boom"
    folder.save(runs[0], record(runs[0]), None)
    assert folder.has(runs[0])
    assert [item.outcome for item in folder.load().cells[0].records] == ["finished"]


def test_a_full_disk_leaves_what_was_finished_and_no_half_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, runs = make()
    folder.save(runs[0], record(runs[0]), None)

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            ResultsError, match=r"No space left on device.\nThe disk is full; what was finished"
        ):
            folder.save(runs[1], record(runs[1]), None)
        with pytest.raises(ResultsError, match="No space left"):
            folder.write("summary.json", "{}")
    assert folder.has(runs[0])
    assert not folder.has(runs[1])
    assert sorted(path.name for path in folder.path.rglob("*writing*")) == []
    assert not list(folder.path.glob("runs/b-*/seed-0"))


def test_a_folder_that_may_not_be_written(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, study, runs = make()

    def denied(self: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(
        ResultsError, match=r"Permission denied.\nFix: --output with a folder that you may write to"
    ):
        ResultsFolder(tmp_path / "no" / "where").open_for(study, runs)


def test_an_output_that_is_a_file(make: Make, tmp_path: Path) -> None:
    _, study, runs = make()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ResultsError, match="can't be written"):
        ResultsFolder(tmp_path / "file").open_for(study, runs)
    assert (tmp_path / "file").read_text() == "mine"


def test_someone_elses_folder_is_left_alone(make: Make, tmp_path: Path) -> None:
    _, study, runs = make()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(ResultsError, match="not empty and holds no results of bnbench"):
        ResultsFolder(tmp_path / "thesis").open_for(study, runs)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_a_newer_schema_is_neither_read_nor_overwritten(make: Make) -> None:
    folder, study, runs = make()
    plan = json.loads((folder.path / files.PLAN).read_text())
    (folder.path / files.PLAN).write_text(json.dumps(plan | {"schema_version": 99}))
    with pytest.raises(
        ResultsError, match=r"schema version 99, this bnbench knows up to 1.\nA newer bnbench"
    ):
        folder.load()
    with pytest.raises(ResultsError, match="schema version 99"):
        folder.open_for(study, runs)
    assert json.loads((folder.path / files.PLAN).read_text())["schema_version"] == 99


def test_no_folder_and_a_damaged_plan(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no results of bnbench here \(plan.json is missing\)"):
        ResultsFolder(tmp_path / "nowhere").load()
    folder, _, _ = make()
    for text in (
        "{",
        "[]",
        "{}",
        '{"schema_version": 1}',
        '{"schema_version": 1, "cells": [3], "targets": []}',
    ):
        (folder.path / files.PLAN).write_text(text)
        with pytest.raises(ResultsError, match="damaged"):
            folder.load()


@pytest.mark.parametrize("seeds", [[0, 0], [1, 0, 1]])
def test_a_plan_with_a_seed_twice_is_damaged(seeds: list[int], make: Make) -> None:
    folder, _, _ = make()
    plan = json.loads((folder.path / files.PLAN).read_text())
    plan["cells"][0]["seeds"] = seeds
    (folder.path / files.PLAN).write_text(json.dumps(plan))
    with pytest.raises(ResultsError, match="is there twice"):
        folder.load()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.json", "{", "JSONDecodeError"),
        ("run.json", "", "JSONDecodeError"),
        ("run.json", "[]", "left out"),
        ("run.json", '{"schema_version": 99}', "schema version 99, this bnbench knows up to 1"),
        ("history.csv", "step,epoch\n1", "left out"),
        ("history.csv", "step,epoch,train_seconds,batch_loss\nx,1,1,1\n", "invalid literal"),
        ("steps.csv", "step,batch_loss\n1,oops\n", "could not convert string to float"),
    ],
)
def test_a_damaged_run_is_named_and_counts_as_missing(name: str, text: str, said: str, make: Make) -> None:
    folder, _, runs = make()
    for run in runs:
        folder.save(run, record(run), None)
    (path,) = folder.path.glob(f"runs/b-*/seed-1/{name}")
    path.write_text(text)
    results = folder.load()
    assert [len(cell.records) for cell in results.cells] == [2, 1]
    assert len(results.warnings) == 1
    assert str(path.parent) in results.warnings[0]
    assert said in results.warnings[0]
    assert [folder.has(run) for run in runs] == [True, True, True, False]  # so a rerun mends it


def test_a_hand_edited_run_is_named(make: Make) -> None:
    folder, _, runs = make()
    folder.save(runs[0], record(runs[0]), None)
    (path,) = folder.path.glob("runs/a-*/seed-0/run.json")
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"outcome": "splendid"}))
    assert "left out, as outcome can't be read" in folder.load().warnings[0]
    path.write_text(json.dumps(values | {"cell": "000000000000"}))
    assert "a run of other settings (000000000000" in folder.load().warnings[0]
    assert not folder.has(runs[0])


def test_large_files_may_be_left_behind(make: Make) -> None:
    folder, _, runs = make()
    folder.save(runs[0], record(runs[0]), {"w": np.zeros(2, np.float32)})
    (run,) = folder.path.glob("runs/a-*/seed-0")
    (run / files.STEPS).unlink()
    (run / files.CHECKPOINT).unlink()
    (back,) = folder.load().cells[0].records
    assert back == record(runs[0], step_losses=())
