"""Tabular tasks through the real engine. Oracles: scikit-learn's r2_score and errors on the kept weights; NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from typer.testing import CliRunner

from bnbench.base.errors import DataError
from bnbench.cli.app import app
from bnbench.data import Dataset
from bnbench.data.npz import npz
from bnbench.data.targets import are_numbers, holds
from bnbench.engine.evaluate import evaluate
from bnbench.engine.library import Library
from bnbench.engine.stacked.objective import stacked_objective
from bnbench.optim.objectives import OneHotSquares
from bnbench.study import Vocabulary, load_study

CPU = torch.device("cpu")
TEXT = """
dataset: {name: npz, path: data.npz}
optimizer: {name: adam, lr: 0.02}
epochs: 3
seeds: 2
variants: [none, batch]
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def save(columns: int = 1, count: int = 240, **changes: Any) -> Path:
    """Features of other scales, and targets that follow them, far from 0."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(count, 5)) * [1, 10, 100, 0.1, 1] + 3
    y = 1000 + x[:, :columns] * [50.0, 2.0, 3.0][:columns] + draw.normal(size=(count, columns))
    y = y[:, 0] if columns == 1 else y
    parts = {"x_train": x[:200], "y_train": y[:200], "x_test": x[200:], "y_test": y[200:], **changes}
    np.savez("data.npz", **parts)
    return Path("data.npz")


def run(text: str, *words: str) -> tuple[int, str]:
    Path("s.yaml").write_text(text)
    result = CliRunner().invoke(app, ["compare", "s.yaml", "--output", "o", *words])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("task", ["", "task: tabular\n", "task: tabular_regression\n"])
def test_numbers_are_learnt_and_measured_in_their_own_units(
    columns: int, task: str, vocabulary: Vocabulary
) -> None:
    """Against scikit-learn, from the network's outputs times the training targets' std plus their mean."""
    save(columns)
    Path("s.yaml").write_text(TEXT + task)
    settings = load_study(Path("s.yaml"), [], vocabulary).variants["batch"]
    assert settings.task.name == "tabular_regression"
    assert (settings.model.name, settings.loss.name) == ("mlp", "mse")
    data = Library(Path(), CPU).prepared(settings)
    own = np.load("data.npz")["y_test"].reshape(40, -1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, columns))
    found = evaluate(model, data, ("test",))
    center, scale = data.target_center, data.target_scale
    assert center is not None
    assert scale is not None
    with torch.no_grad():
        answers = model(data.test_inputs).double() * scale + center
    wanted = data.test_targets.double() * scale + center
    assert np.allclose(np.sort(wanted.numpy(), 0), np.sort(own, 0), rtol=1e-6)
    assert found["test_r2"] == pytest.approx(r2_score(wanted, answers), rel=1e-6)
    assert found["test_mse"] == pytest.approx(mean_squared_error(wanted, answers), rel=1e-6)
    assert found["test_mae"] == pytest.approx(mean_absolute_error(wanted, answers), rel=1e-6)
    standard = (answers - wanted) / scale
    assert found["test_loss"] == pytest.approx(float(standard.square().mean()), rel=1e-6)


def test_targets_have_mean_0_and_std_1_over_the_training_part_alone(vocabulary: Vocabulary) -> None:
    save()
    Path("s.yaml").write_text(TEXT)
    data = Library(Path(), CPU).prepared(load_study(Path("s.yaml"), [], vocabulary).variants["none"])
    assert float(data.train_targets.mean()) == pytest.approx(0, abs=1e-6)
    assert float(data.train_targets.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert abs(float(data.val_targets.mean())) > 1e-3


@pytest.mark.parametrize("words", [(), pytest.param(("engine=sequential",), marks=pytest.mark.slow)])
def test_a_regression_from_study_to_verdict(words: tuple[str, ...]) -> None:
    save()
    text = TEXT.replace("epochs: 3", "epochs: 12") + "target: {metric: val_r2, value: 0.5}\nmetrics: [loss]\n"
    code, shown = run(text, *words)
    assert code == 0, shown
    assert "test R²" in shown
    assert "targets have 1145 ± 45.63 in the training part" in shown
    found = json.loads(Path("o/summary.json").read_text())
    runs = [one for variant in found["variants"] for one in variant["runs"]]
    assert [one["outcome"] for one in runs] == ["finished"] * 4
    assert all(one["final"]["test_r2"] > 0.5 and one["steps_to_target"] for one in runs)
    assert all(one["class_names"] == [] for one in runs)


def test_targets_without_a_relation_are_stuck_at_chance() -> None:
    draw = np.random.default_rng(1)
    save(y_train=draw.normal(size=200), y_test=draw.normal(size=40))
    code, shown = run(TEXT.replace("epochs: 3", "epochs: 1").replace("0.02", "0.00001"))
    assert code == 0, shown
    found = json.loads(Path("o/summary.json").read_text())
    assert {one["outcome"] for variant in found["variants"] for one in variant["runs"]} == {"stuck_at_chance"}


Y = np.arange(200.0) / 7


TWO = np.stack([Y, Y], 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_train": np.where(np.arange(200) == 3, np.nan, Y)},
            "y_train has 1 value that is NaN or infinite; the first is y_train[3].",
        ),
        (
            {"y_train": np.full(200, 2.5), "y_test": np.full(40, 2.5)},
            "the target is 2.5 in all 180 samples of the training part.",
        ),
        ({"y_train": TWO * [1, 0] + 0.5, "y_test": TWO[:40]}, "column 1 of the targets is 0.5 in all"),
        ({"y_train": TWO, "y_test": Y[:40]}, "y_test has 1 numbers a sample and y_train 2."),
        ({"y_train": Y[:190]}, "x_train has 200 samples and y_train 190."),
        (
            {"y_train": TWO * [1, 1e300], "y_test": TWO[:40]},
            "± inf in the training part, which is too large.",
        ),
        ({"y_train": TWO * [1, 1e-40], "y_test": TWO[:40]}, "in the training part, which is too small."),
        ({"y_train": TWO * [1, 1e-200], "y_test": TWO[:40]}, "in the training part, which is too small."),
        ({"x_test": np.zeros((1, 5)), "y_test": Y[:1]}, "the test part has 1 row."),
        ({"y_test": np.array(["a"] * 40)}, "y_test holds text, e.g. 'a'."),
    ],
)
def test_targets_that_can_not_be_learnt_are_refused(changes: dict[str, Any], message: str) -> None:
    save(**changes)
    code, shown = run(TEXT)
    assert code == 1
    assert message in shown
    assert "Traceback" not in shown


def test_text_as_targets_of_a_named_regression() -> None:
    save(y_train=np.array(["cat", "dog"] * 100), y_test=np.array(["cat", "dog"] * 20))
    code, shown = run(TEXT + "task: tabular_regression\n")
    assert code == 1
    assert "y_train holds text, e.g. 'cat'." in shown
    assert "Fix: task: tabular" in shown


@pytest.mark.slow
def test_classes_of_features_are_classified_by_the_task_tabular(vocabulary: Vocabulary) -> None:
    save(y_train=np.arange(200) % 3, y_test=np.arange(40) % 3)
    code, shown = run(TEXT + "task: tabular\nmetrics: [macro_f1]\n")
    assert code == 0, shown
    found = json.loads(Path("o/summary.json").read_text())
    assert found["primary"] == "test_accuracy"
    assert found["variants"][0]["runs"][0]["class_names"] == ["0", "1", "2"]
    without = load_study(Path("s.yaml"), ["task=auto", "model=mlp"], vocabulary).variants["none"]
    assert without.task.name == "image_classification"  # as before


def test_whole_numbers_are_numbers_where_the_study_says_so(vocabulary: Vocabulary) -> None:
    save(y_train=np.arange(200), y_test=np.arange(40))
    Path("s.yaml").write_text(TEXT + "task: tabular_regression\n")
    settings = load_study(Path("s.yaml"), [], vocabulary).variants["none"]
    assert Library(Path(), CPU).prepared(settings).train_targets.shape == (180, 1)


def test_images_are_no_features() -> None:
    code, shown = run(TEXT.replace("{name: npz, path: data.npz}", "digits") + "task: tabular\n")
    assert code == 1
    assert "task: tabular: inputs of torch.uint8 and shape (1, 8, 8) a sample." in shown


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (np.array([0.5, 1.0]), True),
        (np.array([0.0, np.nan, 1.0]), False),  # classes, one of them missing
        (np.array([0.5, np.nan]), True),
        (np.arange(5), False),
        (np.eye(3), False),  # one-hot
        (np.array([[0.2, 0.8], [0.5, 0.5]]), False),  # probabilities
        (np.array([[1, 1, 0], [0, 0, 0]]), False),  # many labels
        (np.array([[3, 7], [1, 9]]), True),
        (np.array([[0.5], [0.1]]), True),
        (np.array(["a", "b"]), False),
        (np.zeros((4, 2, 2)), False),
    ],
)
def test_numbers_are_told_from_classes(values: Any, numbers: bool) -> None:
    assert are_numbers(values) is numbers


def test_a_file_that_is_not_there_says_nothing() -> None:
    assert holds(Path("no.npz")) == ""
    Path("bad.npz").write_bytes(b"no zip")
    assert holds(Path("bad.npz")) == ""


def test_a_stack_has_the_squares_of_numbers_as_torch_has_them() -> None:
    """Against autograd on each replica, in float64."""
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 7, 2, generator=draw, dtype=torch.float64)
    numbers = torch.randn(3, 7, 2, generator=draw, dtype=torch.float64)
    losses, grads = stacked_objective(OneHotSquares())(outputs.clone(), numbers)
    for index in range(3):
        own = outputs[index].clone().requires_grad_()
        loss = torch.nn.functional.mse_loss(own, numbers[index])
        (grad,) = torch.autograd.grad(loss, own)
        assert torch.allclose(losses[index], loss, rtol=1e-12)
        assert torch.allclose(grads[index], grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_the_embedded_rows_are_scikit_learns(name: str, vocabulary: Vocabulary) -> None:
    from sklearn import datasets as source

    given = getattr(source, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    data: Dataset = vocabulary["dataset"][name].factory(Path())
    rows = torch.cat([data.train_inputs, data.test_inputs]).flatten(1).double()
    assert torch.allclose(rows.sum(0), torch.from_numpy(given.data).sum(0), rtol=1e-6)
    assert len(data.test_targets) == -(-len(given.data) // 5)
    assert float(torch.cat([data.train_targets, data.test_targets]).sum()) == pytest.approx(
        given.target.sum()
    )


def test_labels_of_an_npz_stay_as_they_were() -> None:
    """Classes are read as ever where nothing speaks of numbers."""
    save(y_train=Y, y_test=Y[:40])
    with pytest.raises(DataError, match="no whole numbers"):
        npz(Path(), path=Path("data.npz"))
