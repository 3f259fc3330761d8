"""`--model` on the command line and `model=` in Python. Oracle: the networks of `own_networks.py`, and the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

import bnbench
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.cli.app import app

Run = Callable[..., Result]
FILE = Path(__file__).parents[1] / "network" / "own_networks.py"
STUDY = """
dataset: digits
max_train_samples: 64
max_eval_samples: 32
model: {name: cnn, channels: [4]}
optimizer: {name: sgd, lr: 0.1}
batch_size: 32
epochs: 1
seeds: 2
variants: [none, batch, group]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    shutil.copy(FILE, "nets.py")
    Path("study.yaml").write_text(STUDY)

    def invoke(*words: str, columns: int = 80) -> Result:
        return CliRunner().invoke(app, list(words), env={"COLUMNS": str(columns)})

    return invoke


@pytest.mark.slow
def test_compare_trains_ones_own_network_and_names_it(run: Run) -> None:
    words = ("compare", "study.yaml", "--model", "nets.py:Net,width=3", "--output", "out", "--jobs", "1")
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert "study: nets.py:Net on digits" in first.output
    again = run(*words)
    assert "6 of 6 runs are finished already" in again.output
    model = yaml.safe_load(Path("out/study.yaml").read_text())["model"]
    assert (model["name"], model["width"]) == ("nets.py:Net", 3)
    notes = json.loads(run("report", "out", "--format", "json").stdout)["notes"]
    assert any("2 of 2 batch norms taken out; 2 biases given back" in note for note in notes)
    # another source is another network
    text = Path("nets.py").read_text()
    Path("nets.py").write_text(
        text.replace("nn.init.normal_(self.conv.weight, 0.3", "nn.init.normal_(self.conv.weight, 0.2")
    )
    changed = run(*words)
    assert changed.exit_code == 1
    assert "nets.py: changed" in changed.output


@pytest.mark.slow
def test_workers_and_several_studies_load_the_file_and_give_the_same_numbers(run: Run) -> None:
    Path("other.yaml").write_text(STUDY.replace("batch_size: 32", "batch_size: 16"))
    run("compare", "study.yaml", "--model", "nets.py:Rgb", "--output", "one", "--jobs", "1")
    both = run(
        "compare", "study.yaml", "other.yaml", "--model", "nets.py:Rgb", "--output", "two", "--jobs", "2"
    )
    assert both.exit_code == 0, both.output

    def losses(folder: str) -> dict:
        found = bnbench.load(folder)
        return {(r["variant"], r["seed"]): r["final_test_loss"] for r in found.runs}

    (folder,) = Path("two").glob("study+model=nets*")
    assert losses("one") == losses(str(folder))


@pytest.mark.parametrize("columns", [80, 40])
def test_check_shows_what_became_of_the_normalizers(run: Run, columns: int) -> None:
    checked = run("check", "study.yaml", "--model", "nets.py:Rgb", columns=columns)
    assert checked.exit_code == 0, checked.output
    lines = checked.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    assert "Network: nets.py:Rgb." in text
    assert "none: 2 of 2 batch norms taken out; 2 biases given back; gray images repeated" in text
    assert "batch: its own 2 batch norms, as they are; gray images" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("study.yaml", "--model", "nets.py:Nett"), 'there is no "Nett" in it. Did you mean "Net"'),
        (("study.yaml", "--model", "missing.py:Net"), "missing.py: no such file"),
        (("study.yaml", "--model", "nets.py:Needs"), "Needs needs depth, which nothing gives"),
        (("study.yaml", "--model", "nets.py:Net,widht=3"), 'Did you mean "width"'),
        (("study.yaml", "--model", "nets.py:Seven"), "gives (3, 7) for 3 samples"),
        (("study.yaml", "--model", "nets:Net"), "names no network"),
        (("study.yaml", "--model", ""), "--model is empty"),
        (("study.yaml", "--model", "torchvision:"), "the name is missing"),
        (("study.yaml", "--model", "torchvision:resnet81"), 'Did you mean "resnet18"'),
        (("study.yaml", "--model", "nets.py:Net", "variants.batch.model=mlp"), "it has a model of its own"),
        (("study.yaml", "model.name=nets.py:Nett"), 'there is no "Nett"'),
        (("file.yaml",), "bnbench compare file.yaml --model nets.py:Net"),
        (("zoo.yaml",), 'Did you mean "resnet18"'),
    ],
)
def test_bad_input_is_one_message_before_training(run: Run, words: tuple[str, ...], says: str) -> None:
    model = "model: {name: cnn, channels: [4]}"
    Path("file.yaml").write_text(STUDY.replace(model, "model: nets.py:Net"))
    Path("zoo.yaml").write_text(STUDY.replace(model, "model: {name: torchvision, arch: resnt18}"))
    for command in ("check", "compare"):
        refused = run(command, *words, columns=400)
        assert refused.exit_code == 1
        assert says in refused.output
        assert "Traceback" not in refused.output
    assert not list(Path().rglob("record.json"))


@pytest.mark.slow
def test_a_study_may_name_a_network_of_torchvision(run: Run) -> None:
    model = "{name: torchvision, arch: shufflenet_v2_x0_5, image_size: 32}"
    Path("zoo.yaml").write_text(
        STUDY.replace("{name: cnn, channels: [4]}", model).replace("group]", "layer]")
    )
    checked = run("check", "zoo.yaml", columns=200)
    assert checked.exit_code == 0, checked.output
    assert "Network: torchvision:shufflenet_v2_x0_5." in checked.output
    assert "batch norms replaced by layer" in checked.output
    assert "images resized to 32 x 32" in checked.output
    refused = run("check", "zoo.yaml", "model.options.weights=DEFAULT", columns=400)
    assert "nothing is downloaded" in refused.output


@pytest.mark.slow
def test_from_python_with_a_word_a_class_or_a_function(run: Run) -> None:
    from torch import nn

    def network(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, num_classes))

    given = bnbench.check("study.yaml", model="nets.py:Rgb")
    assert "its own 2 batch norms" in given.cells[1]["network"]
    own = bnbench.check("study.yaml", model=network)
    assert own.cells[0]["network"] == "1 of 1 batch norms taken out"
    assert own.cells[0]["num_parameters"] == 64 * 4 + 4 + 50
    trained = bnbench.train("study.yaml", "batch", model=network, output="trained", seeds=1)
    assert len(trained.runs) == 1
    with pytest.raises(BnbenchError, match="built already"):
        bnbench.check("study.yaml", model=network(10))
    with pytest.raises(ConfigError, match="not a torch"):
        bnbench.check("study.yaml", model=lambda: 3)
