"""Own data on the command line: its notes and cautions are shown, by `check` and by `compare`, and its options work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bnbench.cli.app import app

Run = Callable[..., Result]
STUDY = """
dataset: {name: npz, path: own.npz}
model: {name: mlp, hidden: [4]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
batch_size: 16
seeds: 3
variants: {none: {norm: none}, batch: {norm: batch}}
"""
RNG = np.random.default_rng(0)
Y = np.tile([0, 1, 2, 3], 25)
ARRAYS: dict[str, Any] = {
    "x_train": RNG.normal(size=(100, 20)),
    "y_train": Y,
    "x_test": RNG.normal(size=(40, 20)),
    "y_test": Y[:40],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    np.savez("own.npz", **ARRAYS)
    Path("own.yaml").write_text(STUDY)
    return lambda *words: CliRunner().invoke(app, words)


def flat(result: Result) -> str:
    return " ".join(result.output.split())


def test_notes_and_cautions_are_shown_by_check_and_compare(run: Run) -> None:
    np.savez("own.npz", **ARRAYS | {"x_test": ARRAYS["x_test"] * 5, "spare": Y})
    checked = flat(run("check", "own.yaml"))
    assert 'Data: arrays that are not used: "spare".' in checked
    assert "are they on one scale?" in checked
    result = run("compare", "own.yaml")
    assert result.exit_code == 0, result.output
    assert 'arrays that are not used: "spare"' in flat(result)
    found = json.loads(Path("results/own/summary.json").read_text())
    assert any("are they on one scale?" in text for text in found["cautions"])
    assert not any("spare" in text for text in found["cautions"])


def test_a_split_by_group_from_end_to_end(run: Run) -> None:
    assert "the data has no groups" in flat(run("check", "own.yaml", "validation.by=group"))
    assert "the data has no groups" in flat(run("check", "quickstart", "validation.by=group"))
    np.savez("own.npz", **ARRAYS, groups=np.arange(100) // 5)
    result = run("compare", "own.yaml", "validation={by: group, fraction: 0.2}")
    assert result.exit_code == 0, result.output
    assert "validation by group: 4 of 20 groups, 20 samples (20.0%)" in flat(result)
    np.savez("own.npz", **ARRAYS, groups=np.zeros(100))
    assert "are of one group" in flat(run("compare", "own.yaml", "validation.by=group"))
    np.savez("own.npz", **ARRAYS, groups=np.arange(99))
    assert "there are 100 samples" in flat(run("check", "own.yaml"))


def test_a_split_by_seed_needs_something_to_split(run: Run) -> None:
    np.savez("own.npz", **ARRAYS, x_val=ARRAYS["x_test"] + 0.1, y_val=Y[:40])
    for command in ("check", "compare"):
        result = run(command, "own.yaml", "vary=[init, order, split]")
        assert result.exit_code == 1
        assert "the data has a validation part of its own, which is the same for every seed" in flat(result)
    assert run("compare", "own.yaml", "vary=[init, order, split]", "validation.by=sample").exit_code == 0


def test_max_eval_samples_is_in_the_record(run: Run) -> None:
    result = run("compare", "own.yaml", "max_eval_samples=8")
    assert result.exit_code == 0, result.output
    record = json.loads(next(Path("results").glob("*/runs/*/seed-0/run.json")).read_text())
    assert record["num_samples"] == {"train": 90, "val": 8, "test": 8}
    assert [sum(record["class_counts"][part]) for part in ("train", "val", "test")] == [90, 8, 8]


def test_crops_of_features_are_refused_by_check_and_compare(run: Run) -> None:
    for command in ("check", "compare"):
        result = run(command, "own.yaml", "augment=crop_flip")
        assert result.exit_code == 1
        assert "98.8% of the training pixels would be padding" in flat(result)
        assert "Fix: augment: none." in flat(result)


def test_options_of_an_image_folder_in_a_study(run: Run, tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for number in range(6):
                path = tmp_path / "pets" / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(RNG.integers(0, 256, (7, 14, 3), np.uint8)).save(path)
    lines = [f"train/{name}/{number}.png,{number}" for name in ("cat", "dog") for number in range(6)]
    Path("groups.csv").write_text("file,group\n" + "\n".join(lines) + "\n")
    options = "image_size: [6, 8], resize: pad, background: [1, 2, 3], groups: groups.csv"
    text = STUDY.replace("{name: npz, path: own.npz}", f"{{name: imagefolder, path: pets, {options}}}")
    Path("pets.yaml").write_text(text.replace("batch_size: 16", "batch_size: 4"))
    result = run("compare", "pets.yaml", "--data-dir", "data", "validation.by=group")
    assert result.exit_code == 0, result.output
    assert "36 of 36 images were resized to 6x8 (height x width)" in flat(result)
    assert "36 of 36 images were padded with the colour [1, 2, 3]" in flat(result)
    assert "validation by group: 1 of 6 groups, 2 samples" in flat(result)
    folder = "results/pets+validation.by=group"
    again = run("compare", f"{folder}/study.yaml", "--data-dir", "data", "--output", "again")
    assert again.exit_code == 0, again.output
    cells = [json.loads(Path(p, "plan.json").read_text())["cells"][0]["cell"] for p in ("again", folder)]
    assert cells[0] == cells[1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("image_size: 0", "dataset.image_size: 0 is wrong"),
        ("image_size: [4]", "dataset.image_size"),
        ("image_size: [4, 4, 4]", "dataset.image_size"),
        ("resize: zoom", "dataset.resize: 'zoom' is not one of crop, pad or stretch"),
        ("background: pink", "dataset.background"),
        ("background: [1, 2, 300]", "dataset.background"),
        ("max_pixels: -1", "dataset.max_pixels: -1 is wrong"),
    ],
)
def test_options_that_can_not_be(option: str, message: str, run: Run) -> None:
    result = run("check", "own.yaml", f"dataset={{name: imagefolder, path: x, {option}}}")
    assert result.exit_code == 1
    assert message in flat(result)


def test_a_wrong_element_of_a_list_is_one_mistake(run: Run) -> None:
    """The branch of the option that takes one number is not blamed for a list."""
    result = run("check", "own.yaml", "dataset={name: imagefolder, path: x, image_size: [0, 3]}")
    assert "dataset.image_size.0: 0 is wrong: it should be greater than or equal to 1" in flat(result)
    assert "valid integer" not in flat(result)
