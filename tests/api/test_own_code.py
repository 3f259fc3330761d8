"""A layer that a script, a notebook or a prompt registers itself: it trains, and its runs are known by its code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnbench.base.interactive import digest
from tests.tiny_study import TINY

STUDY = {**TINY, "engine": "sequential", "seeds": 1, "variants": ["none", "scale"]}
CELL = """
FACTOR = 1.0
def factor():
    return FACTOR
class Scale(torch.nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.gamma = torch.nn.Parameter(torch.ones(num_features))
    def forward(self, x):
        return x * self.gamma * factor()
@norms.register("scale")
def scale(num_features, dim):
    return Scale(num_features)
"""
PROGRAM = f"""
import json, sys
import bnbench, torch
from bnbench.norms import norms
from bnbench.engine import schedule
schedule.WORTH_WORKERS = 0.0
trained = []
def count(event):
    if type(event).__name__ == "RunEnded":
        trained.append(event.run.variant)
def compare(name):
    before = len(trained)
    comparison = bnbench.compare({STUDY!r}, jobs=2, output=name, listeners=count)
    return [trained[before:], [run["outcome"] for run in comparison.runs]]
CELL
print(json.dumps(MAIN))
"""


def _run(folder: Path, main: str, cell: str = CELL) -> Any:
    program = PROGRAM.replace("CELL", cell).replace("MAIN", main)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_it_trains_in_this_process_and_once(tmp_path: Path) -> None:
    (trained, outcomes), (again, _) = _run(tmp_path, '[compare("a"), compare("a")]')
    assert trained == ["none", "scale"]
    assert "crashed" not in outcomes
    assert again == []
    assert _run(tmp_path, 'compare("a")')[0] == []


@pytest.mark.slow
def test_a_cell_that_is_run_again_and_changed_trains_again(tmp_path: Path) -> None:
    changed = CELL.replace("FACTOR = 1.0", "FACTOR = 2.0")
    main = f'[compare("a"), exec({changed!r}, globals()), compare("b")]'
    (first, _), _, (second, _) = _run(tmp_path, main)
    assert first == ["none", "scale"]
    assert "scale" in second


def _function(text: str) -> Any:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(text, space)
    return space["scale"]


def test_the_digest_follows_what_the_code_names() -> None:
    cell = CELL.replace('@norms.register("scale")', "").replace("torch.nn.Module", "object")
    base = digest([_function(cell)])
    assert digest([_function(cell)]) == base
    assert digest([_function("# a comment\n" + cell + "\nUNUSED = 3\n")]) == base
    for old, new in (
        ("FACTOR = 1.0", "FACTOR = 2.0"),
        ("* factor()", "+ factor()"),
        ("FACTOR\n", "-FACTOR\n"),
    ):
        assert digest([_function(cell.replace(old, new))]) != base


def test_a_value_that_can_not_be_looked_into_is_never_the_same() -> None:
    cell = "LOCK = open(__import__('os').devnull)\ndef scale():\n    return LOCK\n"
    function = _function(cell)
    try:
        assert digest([function]) != digest([function])
    finally:
        function.__globals__["LOCK"].close()
