"""`bnbench convert`: answer, table, JSON, exit codes, both widths, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.cli.app import app

NETWORK = '''
import torch
from torch import nn


class Net(nn.Module):
    """Two batch norms of other widths, and a layer norm."""

    def __init__(self, num_classes=3):
        super().__init__()
        print("MADE")
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.last, self.fc = nn.LayerNorm(8), nn.Linear(8, num_classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(self.stem(x))))
        return self.fc(self.last(x.mean((2, 3))))


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


class Mine(nn.Module):
    """A layer of one's own: each channel divided by its largest value."""

    def __init__(self, num_features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))

    def forward(self, x):
        y = x / (x.abs().amax((0, *range(2, x.dim())), keepdim=True) + 1e-5)
        return y * self.weight.reshape(-1, *[1] * (x.dim() - 2))


class Ends(nn.Module):
    def __init__(self):
        raise SystemExit(3)
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("my_net.py").write_text(NETWORK)
    return tmp_path


def run(*words: str, columns: int = 80) -> Result:
    return CliRunner().invoke(app, ["convert", *words], env={"COLUMNS": str(columns)})


def test_answer_table_and_proofs(file):
    found = run("my_net.py:Net", "--to", "group", "--input", "3x8x8")
    assert found.exit_code == 0
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert lines[0] == "my_net.py:Net: 2 of 3 norms converted to group. All 5 proofs hold."
    assert "stem.1 and 1 more BatchNorm2d -> GroupNorm carried lost given back" in lines
    assert any(line.startswith("last: layer norm, and batch and sync norms are converted") for line in lines)
    assert sum(line.startswith("holds: ") for line in lines) == 5
    assert "MADE" not in found.stdout


@pytest.mark.parametrize("columns", [40, 80])
def test_width(file, columns):
    found = run("my_net.py:Net", "--to", "layer", "--input", "3x8x8", "--all", columns=columns)
    assert found.exit_code == 0
    assert max(map(len, found.stdout.splitlines())) <= columns


def test_every_norm_by_itself(file):
    found = run("my_net.py:Net", "--to", "group", "--option", "num_groups=2", "--input", "3x8x8", "--all")
    rows = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert "stem.1 BatchNorm2d(6) -> GroupNorm(2, 6) carried lost given back" in rows
    assert "norm BatchNorm2d(8) -> GroupNorm(2, 8) carried lost given back" in rows


def test_json(file):
    found = run("my_net.py:Net", "--to", "group", "--from", "all", "--input", "3x8x8", "--format", "json")
    record = json.loads(found.stdout)
    assert (record["to"], record["from"], record["passed"]) == ("group", "all", True)
    assert [site["name"] for site in record["sites"]] == ["stem.1", "norm", "last"]
    assert [site["action"] for site in record["sites"]] == ["converted"] * 3
    first = record["sites"][0]
    assert (first["names"], first["kind"], first["calls"], first["reason"]) == (["stem.1"], "batch", 1, "")
    assert (first["gamma"], first["bias"]) == ("carried", "given back: stem.0")
    assert [proof["name"] for proof in record["proofs"]] == [
        "all norms counted",
        "batch = batch_custom",
        "there and back",
        "parameters explained",
        "one step",
    ]
    assert record["proofs"][3]["value"] == "665 + 14 biases given back = 679"
    assert record["findings"] == []


def test_exit_codes(file):
    assert run("my_net.py:Net", "--to", "group", "--input", "3x8x8", "--strict").exit_code == 4
    assert (
        run("my_net.py:Net", "--to", "group", "--input", "3x8x8", "--strict", "--from", "all").exit_code == 0
    )
    refused = run("my_net.py:Net", "--to", "group", "--option", "groups=4", "--input", "3x8x8")
    assert refused.exit_code == 0
    assert "1 of 3 norms converted" in refused.stdout
    assert "stem.1: norm.groups=4 does not divide the 6 channels." in " ".join(refused.stdout.split())


def test_a_layer_of_ones_own(file):
    found = run("my_net.py:Net", "--to", "my_net.py:Mine", "--input", "3x8x8", "--format", "json")
    record = json.loads(found.stdout)
    assert (found.exit_code, record["passed"]) == (0, True)
    assert record["sites"][0]["after"].startswith("Mine(")
    assert record["sites"][0]["beta"] == "lost: it has none"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["my_net.py:Net", "--to", "groop"], 1, 'unknown norm "groop". Did you mean "group"?'),
        (["my_net.py:Nett", "--to", "group"], 1, "Nett"),
        (["my_net.py:Ends", "--to", "group"], 1, "my_net.py"),
        (["my_net.py:plain", "--to", "group", "--input", "12"], 1, "has no normalization"),
        (["my_net.py:Net", "--to", "group", "--option", "grups=2"], 1, 'Did you mean "groups"?'),
        (["my_net.py:Net", "--to", "group", "--option", "groups=0"], 1, "groups=0 of norm group"),
        (["my_net.py:Net", "--to", "group", "--option", "groups"], 2, "key=value"),
        (["my_net.py:Net"], 2, "--to"),
        (["my_net.py:Net", "--to", "group", "--input", "3x2x2"], 1, "does not take it"),
    ],
)
def test_bad_input(file, words, code, text):
    found = run(*words)
    assert found.exit_code == code, found.output
    assert text in " ".join(found.output.replace("│", " ").split())
    assert "Traceback" not in found.output
