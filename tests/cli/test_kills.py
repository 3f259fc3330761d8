"""The small form of the campaign of kills (`tests/benchmarks/kills.py`). Oracle: the studies that nothing disturbed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """At random instants and inside of writes; no process, temporary file or shared memory is left."""
    script = ROOT / "tests" / "benchmarks" / "kills.py"
    words = ["--kills", "2", "--in-a-row", "2", "--seed", "5", "--only", "stacked", "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, script, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = [json.loads(line) for line in (tmp_path / "kills-5.jsonl").read_text().splitlines()]
    assert sum(len(outcome["kills"]) for outcome in outcomes) >= 2
    assert not any(outcome["faults"] for outcome in outcomes)
