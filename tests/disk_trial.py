"""A small `compare` on a disk that fails at one call: what it says, what it keeps, and whether a rerun completes it.

Oracle: the same command on a disk that works.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner, Result

from bnbench.cli.app import app
from bnbench.results.files import RUN
from tests.faulty_disk import Fault, calls, installed
from tests.same_results import assert_same

STUDY = """
name: s
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
steps: 3
max_train_samples: 200
max_eval_samples: 64
seeds: 1
variants: {none: {}, batch: {norm: batch}}
"""
#: What a note of a run says where a state was not kept.
UNSAVED = "no state was saved"


@dataclass(frozen=True)
class Tried:
    """What became of a command on that disk. kept: the runs that were whole afterwards, by their folders' names."""

    code: int
    stdout: str
    stderr: str
    call: str
    kept: tuple[str, ...]

    @property
    def said(self) -> str:
        """All that it printed, in one line."""
        return " ".join((self.stdout + self.stderr).split())


def study_in(root: Path) -> Path:
    """The study, written there."""
    (root / "s.yaml").write_text(STUDY)
    return root / "s.yaml"


def undisturbed(root: Path) -> tuple[Path, int]:
    """The results folder of a disk that works, and how many calls the command makes."""
    fault = Fault("none", 0, str(root / "undisturbed"), str(root / "calls.txt"))
    with installed(fault):
        done = _compare(root, root / "undisturbed")
    assert done.exit_code == 0, done.output
    return root / "undisturbed", len(calls(fault))


def tried(root: Path, kind: str, at: int, only: str = "") -> Tried:
    """The command on a disk whose call `at` meets the fault; then again on one that works, and the comparison."""
    folder, log = root / f"{kind}-{at}", root / f"{kind}-{at}.txt"
    for left in (folder, log):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    fault = Fault(kind, at, str(folder), str(log), only)
    with installed(fault):
        done = _compare(root, folder)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    before = {path.parent: path.read_bytes() for path in folder.glob(f"runs/*/*/{RUN}")}
    again = _compare(root, folder)
    assert again.exit_code == 0, again.output
    for place, content in before.items():
        assert (place / RUN).read_bytes() == content, f"{place} was trained again"
    _without_notes(folder)
    assert_same(root / "undisturbed", folder)
    at_fault = calls(fault)[at - 1] if len(calls(fault)) >= at else ""
    kept = tuple(sorted(place.parent.name.rpartition("-")[0] for place in before))
    return Tried(done.exit_code, done.stdout, done.stderr, at_fault, kept)


def _compare(root: Path, folder: Path) -> Result:
    words = ["compare", str(root / "s.yaml"), "--output", str(folder), "--jobs", "1", "--save-every", "0"]
    return CliRunner().invoke(app, words)


def _without_notes(folder: Path) -> None:
    """Leave out the notes on states that were not kept: they are the trace of the fault."""
    for path in folder.glob(f"runs/*/*/{RUN}"):
        values = json.loads(path.read_text())
        values["notes"] = [note for note in values["notes"] if UNSAVED not in note]
        path.write_text(json.dumps(values))


def faults_of(one: Tried, folder: Path) -> list[str]:
    """What is not as it should be: a traceback, a failure without a fix, or one that nobody was told of."""
    faults = []
    if "Traceback" in one.stderr:
        faults.append("a traceback")
    if one.code not in (0, 1):
        faults.append(f"exit code {one.code}")
    if one.code == 1 and not ("Fix: " in one.said and folder.name in one.said):
        faults.append(f"the message names no folder and no fix: {one.said[-300:]}")
    whole = len(one.kept) == 2 and (folder / "summary.csv").exists()
    if one.code == 0 and not whole:
        faults.append(f"exit code 0, and only {one.kept} are there")
    writes_a_state = (
        one.call.startswith(("create", "write", "fsync", "replace", "mkdir")) and ".states/" in one.call
    )
    if one.code == 0 and writes_a_state and ".writing" in one.call and UNSAVED not in one.said:
        faults.append("a state was not kept, and nobody was told")
    return faults
