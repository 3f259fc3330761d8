"""`bnbench fold`: answer, table, JSON, exit codes, both widths."""

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
    """One norm goes before, one after, one is left."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias)

    def forward(self, x):
        x = self.conv(self.norm(self.stem(x)))
        return self.fc(torch.relu(self.last(torch.relu(x))).mean((2, 3)))


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("my_net.py").write_text(NETWORK)
    return tmp_path


def run(*words: str, columns: int = 80) -> Result:
    return CliRunner().invoke(app, ["fold", *words], env={"COLUMNS": str(columns)})


def test_answer_and_table(file):
    found = run("my_net.py:Net", "--input", "3x8x8")
    assert found.exit_code == 0
    assert found.stdout.startswith("my_net.py:Net: 2 of 3 batch norms folded. All 4 proofs hold.")
    rows = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert "stem.1 batch folded into stem.0 before it" in rows
    assert "norm batch folded into conv after it" in rows
    assert any(row.startswith("last batch left: before it: it follows relu") for row in rows)


def test_narrow(file):
    found = run("my_net.py:Net", "--input", "3x8x8", columns=40)
    assert found.exit_code == 0
    assert max(map(len, found.stdout.splitlines())) <= 40


def test_json(file):
    found = run("my_net.py:Net", "--input", "3x8x8", "--format", "json")
    assert found.exit_code == 0
    record = json.loads(found.stdout)
    assert [(site["name"], site["action"], site.get("side")) for site in record["sites"]] == [
        ("stem.1", "folded", "before"),
        ("norm", "folded", "after"),
        ("last", "left", None),
    ]
    assert record["sites"][2]["blocked_after"] == {"reason": "it goes to relu", "place": "relu"}
    assert [(proof["name"], proof["passed"]) for proof in record["proofs"]] == [
        ("count", True),
        ("float64", True),
        ("float32 rounding", True),
        ("predictions", True),
    ]
    assert record["findings"] == []


def test_strict(file):
    assert run("my_net.py:Net", "--input", "3x8x8", "--strict").exit_code == 4


def test_saved_and_built_again(file):
    import torch

    import bnbench

    found = run("my_net.py:Net", "--input", "3x8x8", "--save", "folded")
    assert found.exit_code == 0
    again = bnbench.rebuild("my_net.py:Net", "folded").eval()
    assert type(again.conv).__name__ == "ZeroPointConv2d"
    assert isinstance(again.norm, torch.nn.Identity)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    truth = bnbench.fold("my_net.py:Net", inputs="3x8x8").model
    assert torch.equal(again(x), truth(x))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("my_net.py:plain", "--input", "12"), "no normalization"),
        (("my_net.py:Missing",), "Missing"),
        (("my_net.py:Net", "--input", "5x8x8"), "does not take it"),
        (("my_net.py:Net", "--data", "no_such_study"), "no_such_study"),
    ],
)
def test_bad_input(file, words, message):
    found = run(*words)
    assert found.exit_code == 1
    assert message in found.stderr
    assert "Traceback" not in found.stderr
