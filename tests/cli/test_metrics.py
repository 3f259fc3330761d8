"""Metrics of classes from the study to every output, and the names that no data has."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bnbench.base.errors import ConfigError
from bnbench.cli.app import app
from bnbench.study import Vocabulary, json_schema, load_study, resolved

Run = Callable[..., Result]
STUDY = """
dataset: {name: npz, path: own.npz}
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 40
validation: {fraction: 0.3}
seeds: 3
variants: {none: {norm: none}, batch: {norm: batch}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line beside own.npz: 3 classes of 60, 30 and 10 samples to train on, 20 each to test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    draw = np.random.default_rng(0)
    y_train, y_test = (
        np.repeat(["cat", "dog", "emu. big"], [60, 30, 10]),
        np.repeat(["cat", "dog", "emu. big"], 20),
    )
    places = {"cat": 0.0, "dog": 2.0, "emu. big": 4.0}
    x_train, x_test = (
        (np.array([places[y] for y in labels])[:, None] + draw.normal(size=(len(labels), 3))).astype(
            "float32"
        )
        for labels in (y_train, y_test)
    )
    np.savez(tmp_path / "own.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    (tmp_path / "own.yaml").write_text(STUDY)
    return lambda *words: CliRunner().invoke(app, words)


def test_the_metrics_that_a_study_asks_for_are_in_every_output(run: Run) -> None:
    words = [
        "metrics=[recall, macro_f1]",
        "primary=test_recall:emu. big",
        "target={metric: val_macro_f1, value: 0.5}",
    ]
    result = run(
        *("compare", "own.yaml", *words, "--output", "results/own", "--tables=all"),
        *("--fail-if", "batch.test_recall:emu. big < 0.01"),
    )
    assert result.exit_code == 0, result.output
    assert "Recall by class (%)" in result.output
    assert "Macro F1 (%)" in result.output
    assert "test recall of emu. big" in result.output
    found = json.loads(Path("results/own/summary.json").read_text())
    assert found["metrics"] == [
        "loss",
        "accuracy",
        *(f"recall:{n}" for n in ("cat", "dog", "emu. big")),
        "macro_f1",
    ]
    first = found["variants"][0]["runs"][0]
    assert first["class_names"] == ["cat", "dog", "emu. big"]
    assert first["class_counts"]["test"] == [20, 20, 20]
    assert sum(first["class_counts"]["train"]) == 70
    # by hand: with classes of one size the mean of the recalls is the accuracy
    recalls = [first["final"][f"test_recall:{name}"] for name in first["class_names"]]
    assert sum(recalls) / 3 == pytest.approx(first["final"]["test_accuracy"])
    rows = list(csv.DictReader(Path("results/own/summary.csv").read_text().splitlines()))
    assert float(rows[0]["final_test_recall:emu. big"]) == recalls[2]
    assert "final_test_balanced_accuracy" not in rows[0]
    assert "emu. big" in Path("results/own/report.html").read_text()


@pytest.mark.slow
def test_what_is_not_asked_for_is_measured_all_the_same_and_not_shown(run: Run) -> None:
    result = run("compare", "own.yaml", "seeds=1", "--tables", "all")
    assert "Balanced accuracy" not in result.output
    first = json.loads(Path("results/own/summary.json").read_text())["variants"][0]["runs"][0]
    assert "test_balanced_accuracy" in first["final"]
    result = run("compare", "own.yaml", "seeds=1", "metrics=balanced_accuracy", "--tables", "all")
    assert "2 of 2 runs are finished already" in " ".join(result.output.split())
    assert "Balanced accuracy" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["primary=test_recall:emo"],
        ["target={metric: val_recall:emo, value: 0.5}"],
        ["margin={metric: test_recall:emo, value: 0.1}"],
        ["metrics=recall:emo"],
        ["--fail-if", "batch.test_recall:emo < 0.5"],
    ],
)
def test_a_class_that_the_data_lacks_is_refused_before_training(run: Run, words: list[str]) -> None:
    result = run("compare", "own.yaml", *words)
    assert result.exit_code == 1
    assert 'unknown class "emo"' in result.output
    assert "cat, dog, emu. big" in " ".join(result.output.split())
    assert not Path("results/own/runs").exists()


def test_the_key_is_checked_resolved_and_in_the_schema(vocabulary: Vocabulary, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\nmetrics: [macro_f1, recall, 'recall:3']\n"
    )
    study = load_study(path, [], vocabulary)
    assert study.metrics == ("macro_f1", "recall", "recall:3")
    assert resolved(study, tmp_path)["metrics"] == ["macro_f1", "recall", "recall:3"]
    with pytest.raises(ConfigError, match='unknown metric "balanced"'):
        load_study(path, ["metrics=[balanced]"], vocabulary)
    with pytest.raises(ConfigError, match='unknown metric "test_accuracy"'):
        load_study(path, ["metrics=test_accuracy"], vocabulary)
    assert "recall" in str(json_schema(vocabulary)["properties"]["metrics"])


def test_a_gate_on_a_class_that_the_runs_lack_is_refused_by_report(run: Run) -> None:
    assert run("compare", "own.yaml", "seeds=1").exit_code == 0
    result = run("report", "results/own", "--fail-if", "batch.test_recall:emo < 0.5")
    assert result.exit_code == 2
    assert 'unknown class "emo"' in result.output
    result = run("report", "results/own", "--fail-if", "batch.test_recall:emu. big worse than none")
    assert "can't have a verdict" in result.output


@pytest.mark.slow
def test_a_sweep_with_a_metric_of_a_class(run: Run) -> None:
    words = ["seeds=3", "epochs=2", "sweep={optimizer.lr: [0.1, 0.5]}", "primary=test_recall:cat"]
    result = run("compare", "own.yaml", *words, "--output", "swept")
    assert result.exit_code == 0, result.output
    assert "recall of cat" in Path("swept/report.html").read_text()
    for format in ("latex", "markdown", "csv", "json"):
        assert run("report", "swept", "--format", format).exit_code == 0
