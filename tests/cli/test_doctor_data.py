"""`bnbench doctor --data` and `--train-the-difference` as a command: tables, JSON, overrides, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from bnbench.cli.app import app

FILE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.last = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(self.last(self.drop(self.norm(self.conv(x)).relu())).mean((2, 3)))


class Colour(Net):
    def __init__(self, num_classes):
        super().__init__(3, num_classes)


class Other(Net):
    def __init__(self):
        super().__init__(1, 7)


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(10, 4), nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.embedding(x)).mean(1)
"""
FEW = ["max_train_samples=256", "batch_size=16"]


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(FILE)


def run(*words: str, width: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(width)}).invoke(app, ["doctor", *words])


def trained(name: str) -> Path:
    """Weights whose statistics fit other data."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("net", "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = getattr(module, name)(*((1, 10) if name == "Net" else (10,)))
    for _ in range(50):
        network(torch.randn(8, network.conv.in_channels, 8, 8) + 3)
    torch.save(network.state_dict(), "weights.pt")
    return Path("weights.pt")


@pytest.mark.parametrize("width", [80, 40])
def test_the_gap_of_a_checkpoint(width: int) -> None:
    weights = trained("Colour")
    result = run("net.py:Colour", "--checkpoint", str(weights), "--data", "quickstart", *FEW, width=width)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "Train/eval gap (256 samples in 16 batches of study quickstart): it opens at norm" in text
    assert "not like those of training" in text
    assert "gray images repeated to three channels" in text
    assert max(map(len, result.stdout.splitlines())) <= width


@pytest.mark.slow
def test_json_has_the_gap_alone_on_stdout() -> None:
    weights = trained("Net")
    words = ("net.py:Net", "--checkpoint", str(weights), "--data", "quickstart", *FEW, "--format", "json")
    gap = json.loads(run(*words).stdout)["train_eval_gap"]
    assert (gap["first"], gap["batches"], gap["samples"], gap["definition"]) == ("norm", 16, 256, "batch")
    assert [metric["name"] for metric in gap["metrics"]] == ["loss", "accuracy"]
    assert run(*words).stdout == run(*words).stdout  # the same command, the same numbers


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["net.py:Net", "--data", "quickstrat"], 'Did you mean "quickstart"?'),
        (["net.py:Net", "seeds=3"], "seeds=3: this replaces a setting of a study, and there is none."),
        (["net.py:Net", "--train-the-difference"], "there is no study to train on"),
        (["net.py:Net", "--data", "quickstart", "batch_size=0"], "batch_size"),
        (["net.py:Text", "--data", "quickstart"], "does not take the data, 1 x 8 x 8 a sample"),
    ],
)
def test_bad_input(words: list[str], text: str) -> None:
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert text in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_outputs_of_another_size_have_no_metric() -> None:
    result = run("net.py:Other", "--data", "quickstart", *FEW)
    assert result.exit_code == 0, result.output
    assert "no loss and no metric" in " ".join(result.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("words", [["net.py:Net", "D16"], ["D16", "net.py:Net"], ["net.py:Net"]])
def test_train_the_difference(words: list[str]) -> None:
    result = run(
        "--train-the-difference",
        *words,
        "--data",
        "quickstart",
        "--rules",
        "D16",
        "seeds=2",
        "steps=10",
        *FEW,
    )
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "D16 at last, trained as found and with the dropout of 0.5 before head in place of drop:" in text
    assert "fixed against as_found" in text or "fixed is" in text


def test_a_rule_without_a_study_says_why() -> None:
    weights = trained("Net")
    result = run(
        "net.py:Net",
        "--checkpoint",
        str(weights),
        "--data",
        "quickstart",
        *FEW,
        "--train-the-difference",
        "D01",
    )
    assert "D01 at norm: no study: its fix changes the statistics of a trained network" in " ".join(
        result.stdout.split()
    )
