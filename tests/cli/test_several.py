"""`compare` and `report` with several studies, end to end on the embedded digits."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.api import carrying_out
from bnbench.api.session import Work
from bnbench.cli.app import app

Run = Callable[..., Result]

STUDY = """
dataset: digits
model: {{name: mlp, hidden: [{width}]}}
optimizer: {{name: adam, lr: 1e-2}}
batch_size: 128
epochs: 2
seeds: 3
variants: {{none: {{norm: none}}, batch: {{norm: batch}}{more}}}
target: {{metric: val_accuracy, value: 0.3}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in a folder with a.yaml (two variants) and b.yaml (three)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    Path("a.yaml").write_text(STUDY.format(width=8, more=""))
    Path("b.yaml").write_text(STUDY.format(width=16, more=", layer: {norm: layer}"))
    return lambda *words: CliRunner().invoke(app, words)


def test_the_whole_way(run: Run) -> None:
    result = run("compare", "a.yaml", "b.yaml", "epochs=1", "--output", "out")
    assert result.exit_code == 0, result.output
    assert "Study a (1 of 2)" in result.stderr
    text = " ".join(result.stdout.split())
    assert text.index("a: mlp on digits (2") < text.index("b: mlp on digits (3") < text.index("2 workloads")
    assert "layer is not in a." in text
    assert "batch against none over 2 workloads, in test accuracy:" in text
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "a+epochs=1",
        "b+epochs=1",
        "workloads.json",
    ]
    told = json.loads(Path("out/workloads.json").read_text(), parse_constant=pytest.fail)
    assert told["workloads"] == ["a", "b"]
    first = json.loads(Path("out/a+epochs=1/summary.json").read_text())
    assert {item["steps"] for item in first["variants"][0]["runs"]} == {11}  # the override is for both

    assert run("compare", "a.yaml", "epochs=2", "seeds=1").exit_code == 0
    again = run("compare", "a.yaml", "b.yaml", "epochs=1", "--output", "out", "--format", "json")
    assert "6 of 6 runs are finished already" in again.stderr
    document = json.loads(again.stdout)
    assert [item["name"] for item in document["studies"]] == ["a", "b"]
    assert document["workloads"] == told

    Path("out/workloads.json").unlink()
    shown = run(
        "report",
        "out/a+epochs=1",
        "out/b+epochs=1",
        "--format",
        "csv",
        "--fail-if",
        "layer.test_accuracy < 1",
    )
    assert shown.exit_code == 4
    assert "b: --fail-if 'layer.test_accuracy < 1': FAILED" in shown.stderr
    assert "a: --fail-if" not in shown.stderr
    rows = list(csv.DictReader(shown.stdout.splitlines()))
    assert [row["study"] for row in rows] == ["a"] * 6 + ["b"] * 9
    assert json.loads(Path("out/workloads.json").read_text()) == told

    # of several folders, one that can't be read is named and left out; our own file is no folder
    shutil.copytree("out/a+epochs=1", "copy")
    (Path("out/b+epochs=1") / "plan.json").write_text("{")
    twice = run("report", "out/a+epochs=1", "copy", "--format", "csv")
    assert twice.exit_code == 1
    assert "out/a+epochs=1 and copy hold runs of one study (a), so they are not two workloads" in twice.stderr
    assert not twice.stdout
    shutil.copytree("results/a", "other")  # the same name, another question
    rest = run("report", "out/a+epochs=1", "out/b+epochs=1", "out/workloads.json", "other", "--format", "csv")
    assert rest.exit_code == 1
    assert "Error: out/b+epochs=1/plan.json: damaged" in rest.stderr
    assert "workloads.json: no results" not in rest.stderr
    rows = list(csv.DictReader(rest.stdout.splitlines()))
    assert [row["study"] for row in rows] == ["out/a+epochs=1"] * 6 + ["other"] * 2
    assert run("report", "out/b+epochs=1", "nowhere").exit_code == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["a.yaml", "./a.yaml"], 1, ['./a.yaml: a second study named "a"']),
        (
            ["a.yaml", "b.yaml", "nope", "epoch=3"],
            1,
            ['unknown key "epoch"', "nope: no such study"],
        ),
        (
            ["a.yaml", "b.yaml", "last_batch=keep", "max_train_samples=129"],
            1,
            ["study a, variant batch: norm: batch", "study b, variant batch: norm: batch", "which has 1"],
        ),
        (["a.yaml", "b.yaml", "--fail-if", "bacth.val_loss > 1"], 2, ['unknown variant "bacth"']),
    ],
)
def test_all_mistakes_are_told_before_anything_is_trained(
    words: list[str], code: int, said: list[str], run: Run
) -> None:
    result = run("compare", *words)
    assert result.exit_code == code, result.output
    for text in said:
        assert text in " ".join(result.stderr.split())
    assert not Path("results").exists()


def test_a_study_that_is_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out = carrying_out.carry_out

    def interrupted(work: Work, *args: object) -> None:
        if work.study.name == "b":
            raise KeyboardInterrupt
        carry_out(work, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(carrying_out, "carry_out", interrupted)
    Path("c.yaml").write_text(STUDY.format(width=4, more=""))
    result = run("compare", "a.yaml", "b.yaml", "c.yaml", "seeds=1", "--format", "json")
    assert result.exit_code == 130
    assert "Interrupted. No run had finished, so nothing was saved." in result.stderr
    assert "Not started: c." in result.stderr
    assert [item["name"] for item in json.loads(result.stdout)["studies"]] == ["a"]


@pytest.mark.slow
def test_crashes_of_one_study_are_the_exit_code_of_all(run: Run) -> None:
    Path("mine.py").write_text(
        "import torch\nfrom bnbench.norms import norms\n"
        "class Boom(torch.nn.Module):\n    def forward(self, x):\n"
        "        if self.training and torch.is_grad_enabled():\n            raise RuntimeError('boom')\n"
        "        return x\n"
        "@norms.register('boom', absorbs_bias=False)\ndef boom(num_features, dim):\n    '''Fails.'''\n"
        "    return Boom()\n"
    )
    boom = ["seeds=1", "epochs=1", "-q", "--plugin", "mine.py", "variants.batch.norm=boom"]
    result = process("a.yaml", "b.yaml", *boom)
    assert result.returncode == 3, result.stderr
    assert result.stdout == ""
    assert Path("results/workloads.json").exists()
    both = [*boom, "variants.none={norm: boom, batch_size: 16}"]
    result = process("a.yaml", *both, "--format", "csv", "--output", "out")
    assert result.returncode == 1
    assert result.stdout.count("crashed") == 2


def process(*words: str) -> subprocess.CompletedProcess[str]:
    """`compare` in a process of its own: a plugin is registered once a process."""
    command = [sys.executable, "-m", "bnbench", "compare", *words]
    return subprocess.run(command, capture_output=True, text=True)
