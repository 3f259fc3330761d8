"""Layers of the user's own that are wrong: one message each, and the other runs go on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STUDY = """
dataset: digits
model: {name: mlp, hidden: [16]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 64
epochs: 1
seeds: 1
variants:
  batch: {norm: batch}
  wrong: {norm: WRONG}
"""

LAYERS = """
import torch
from bnbench.norms import norms

class Layer(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call
    def forward(self, x):
        return self.call(x)

@norms.register("narrow")
def narrow(num_features, dim):
    '''Drops a feature.'''
    return Layer(lambda x: x[:, 1:])

@norms.register("two")
def two(num_features, dim):
    '''Returns a tuple.'''
    return Layer(lambda x: (x, x))

@norms.register("no_module")
def no_module(num_features, dim):
    '''Returns a function.'''
    return torch.tanh

@norms.register("nan")
def nan(num_features, dim, *, after: int = 0):
    '''Gives NaN.'''
    return Layer(lambda x: x * float("nan"))
"""


def compare(tmp_path: Path, norm: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Exit code and output of a real process, and the two runs."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("WRONG", norm))
    (tmp_path / "layers.py").write_text(LAYERS)
    command = [sys.executable, "-m", "bnbench", "compare", "study.yaml", "--plugin", "layers.py"]
    result = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    found = tmp_path / "results" / "study" / "summary.json"
    variants = json.loads(found.read_text())["variants"] if found.exists() else []
    return result, [variant["runs"][0] for variant in variants]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "said"),
    [
        ("narrow", ", 16) and returned ("),
        ("two", "and returned a tuple"),
    ],
)
def test_a_layer_of_the_wrong_kind_is_a_crash_with_one_message(tmp_path: Path, norm: str, said: str) -> None:
    result, runs = compare(tmp_path, norm)
    assert result.returncode == 3, result.stdout
    assert said in " ".join(result.stdout.replace("│", " ").split())
    assert "Traceback" not in result.stdout
    assert [run["outcome"] for run in runs] == ["finished", "crashed"]


@pytest.mark.slow
def test_a_factory_that_raises_is_a_mistake_before_training(tmp_path: Path) -> None:
    result, runs = compare(tmp_path, "no_module")
    assert result.returncode == 1, result.stdout
    assert "it can't be built: TypeError: norm no_module: its factory returned" in " ".join(
        result.stdout.split()
    )
    assert "Traceback" not in result.stdout
    assert not runs


@pytest.mark.slow
def test_nan_is_a_divergence(tmp_path: Path) -> None:
    result, runs = compare(tmp_path, "nan")
    assert result.returncode == 0, result.stdout
    assert [run["outcome"] for run in runs] == ["finished", "not_finite"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "said"),
    [
        ("{name: nan, afer: 1}", 'unknown key "afer" in norm nan. Did you mean "after"?'),
        ("{name: ghost, ghost_size: 1}", "norm.ghost_size: 1 is wrong"),
        ("{name: frozen, momentum: 0.1}", 'unknown key "momentum" in norm frozen'),
        ("{name: batch_keras, momentum: 99}", "norm.momentum: 99 is wrong"),
        ("{name: renorm, relax_from: 9, r_relaxed_at: 5}", "norm.relax_from=9 comes after"),
        ("fixup", "norm fixup is not supported by this model"),
    ],
)
def test_options_that_a_normalizer_does_not_know_are_told_before_training(
    tmp_path: Path, norm: str, said: str
) -> None:
    result, runs = compare(tmp_path, norm)
    assert result.returncode == 1
    assert said in " ".join(result.stdout.split())
    assert not runs
