"""Keeping comes before showing: whatever becomes of the streams or the folder, nothing that was trained is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bnbench
from bnbench.cli.app import app

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
max_train_samples: 200
seeds: 1
variants: {none: {}, batch: {norm: batch}}
"""
KEPT = {"plan.json", "study.yaml", "environment.json", "summary.json", "summary.csv", "report.html", "runs"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with s.yaml, whose two runs are done but not summarized."""
    root = tmp_path_factory.mktemp("kept")
    (root / "s.yaml").write_text(STUDY)
    done = CliRunner().invoke(
        app, ["compare", str(root / "s.yaml"), "-q", "--output", str(root / "results/s")]
    )
    assert done.exit_code == 0, done.output
    for name in ("summary.json", "summary.csv", "report.html", "environment.json"):
        (root / "results/s" / name).unlink()
    return root


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "work"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("streams", "gate", "code"),
    [
        ("| head -1", False, 0),
        ("| head -1", True, 4),
        ("> /dev/full", False, 1),
        ("> /dev/full", True, 4),
        ("2> /dev/full", True, 4),
        (">&- 2>&-", False, 0),
        (">&- 2>&- <&-", True, 4),
    ],
)
def test_streams_that_fail(streams: str, gate: bool, code: int, folder: Path) -> None:
    """The summaries are there, and the exit code is the study's: bash's pipefail gives that of bnbench."""
    words = f"'{sys.executable}' -m bnbench compare s.yaml"
    fail_if = " --fail-if 'batch.test_accuracy < 0.99'" if gate else ""
    script = f"set -o pipefail; {words}{fail_if} {streams}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (folder / "results/s").iterdir()} == KEPT
    gates = json.loads((folder / "results/s/summary.json").read_text())["gates"]
    assert [item["failed"] for item in gates] == [True] * gate
    assert not [path for path in folder.iterdir() if path.name not in ("s.yaml", "results")]


def denied(*words: Any, **options: Any) -> Any:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_folder_that_is_read_only_is_shown_and_what_is_not_written_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", denied)
    done = CliRunner().invoke(app, ["report", str(folder / "results/s")])
    assert done.exit_code == 0
    assert "batch" in done.stdout
    text = " ".join(done.stderr.split())
    assert "Warning: summary.json, summary.csv and report.html in " in text
    assert "are not rewritten" in text
    assert "Read-only file system" in text
    assert "--output" not in text
    gate = ["--fail-if", "batch.test_accuracy < 0.99", "--format", "json"]
    done = CliRunner().invoke(app, ["report", str(folder / "results/s"), *gate])
    assert done.exit_code == 4
    assert json.loads(done.stdout)["name"] == "s"


def test_a_folder_that_is_read_only_is_reported_from_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", denied)
    comparison = bnbench.report(folder / "results/s")
    assert comparison == bnbench.load(folder / "results/s")
    (warning,) = [text for text in comparison.warnings if "not rewritten" in text]
    assert warning.startswith("summary.json, summary.csv and report.html in ")
    assert "Read-only file system" in warning


def test_a_disk_that_fills_up_at_the_end_shows_the_tables_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "summary" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["compare", "s.yaml"])
    assert done.exit_code == 1
    assert "batch" in done.stdout
    assert "The disk is full" in done.stderr


@pytest.mark.parametrize("name", ["run.json", "history.csv", "steps.csv", "seed-0"])
@pytest.mark.parametrize("what", ["pipe", "folder", "link to itself", "link to nothing"])
def test_what_is_not_a_file_in_a_run_s_folder_is_named_and_trained_again(
    name: str, what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command hangs, and the next compare mends it."""
    (place,) = (folder / "results/s").glob("runs/batch-*/seed-0")
    path = place if name == "seed-0" else place / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name if what == "link to itself" else "nowhere")
    shown = CliRunner().invoke(app, ["report", str(folder / "results/s"), "--format", "csv"])
    assert shown.exit_code == 0, shown.output
    rows = [line.split(",")[:4] for line in shown.stdout.splitlines()[1:]]
    lenient = name == "steps.csv" and what.startswith("link")  # large files may be left behind
    assert [row[3] == "missing" for row in rows] == [False, not lenient]
    if name != "seed-0" and what != "pipe":
        return
    monkeypatch.chdir(folder)
    mended = CliRunner().invoke(app, ["compare", "s.yaml", "-q", "--format", "csv"])
    assert mended.exit_code == 0, mended.output
    assert "missing" not in mended.stdout


@pytest.mark.parametrize("name", ["plan.json", "study.yaml", "environment.json", "summary.json"])
def test_a_pipe_in_the_place_of_a_file_of_the_folder_ends_at_once(name: str, folder: Path) -> None:
    path = folder / "results/s" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    done = CliRunner().invoke(app, ["report", str(folder / "results/s"), "--format", "csv"])
    assert done.exit_code == (1 if name == "plan.json" else 0), done.output
    if name != "summary.json":
        assert "not a regular file" in done.stderr
