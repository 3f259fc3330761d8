"""A disk that is full, fails or is slow, and kills: nothing finished is lost, and a rerun completes the study.

Oracle: the same study on a disk that works, bit for bit. `tests/benchmarks/disk_faults.py` tries every call.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnbench.cli.app import app
from tests.disk_trial import UNSAVED, Tried, faults_of, study_in, tried, undisturbed
from tests.faulty_disk import Fault, calls, environment, installed
from tests.same_results import assert_same

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    study_in(folder)
    undisturbed(folder)
    return folder


def as_it_should_be(one: Tried, root: Path, kind: str, at: int) -> None:
    assert one.call, "the fault was not met"
    assert faults_of(one, root / f"{kind}-{at}") == []


def test_a_state_that_can_t_be_written_is_a_warning(root: Path) -> None:
    """The run goes on to its end; its note names the folder and the fix, once."""
    one = tried(root, "eio", 3, ".safetensors.")
    as_it_should_be(one, root, "eio", 3)
    assert one.code == 0
    assert one.kept == ("batch", "none")
    assert one.said.count(UNSAVED) == 1
    folder = root / "eio-3" / ".states"
    assert f"Note: {folder}: {UNSAVED}: Input/output error. " in one.said
    assert "Fix: see whether that folder may be written to." in one.said


@pytest.mark.slow
def test_a_disk_that_is_full_when_the_first_run_ends(root: Path) -> None:
    """The run can't be kept, so the command ends; it goes on from the state of before, when there is room."""
    one = tried(root, "full", 4, "runs/")
    as_it_should_be(one, root, "full", 4)
    assert one.code == 1
    assert one.kept == ()
    assert "seed-0: can't be written: No space left on device. The disk is full" in one.said
    assert "Fix: free some space and run the same command again" in one.said


@pytest.mark.slow
def test_a_kill_in_the_middle_of_writing_a_state(root: Path) -> None:
    """Half of the third state of the second run is written; the same command goes on from the second one."""
    folder, log = root / "killed", root / "killed.txt"
    fault = Fault("kill", 3, str(folder), str(log), "write .states/batch-")
    words = ["compare", str(root / "s.yaml"), "--output", str(folder), "--jobs", "1", "--save-every", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "bnbench", *words],
        env=environment(fault),
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    half = [path for path in folder.glob(".states/batch-*/seed-0/*") if path.name.startswith(".")]
    assert len(half) == 1
    assert len(list(folder.glob("runs/*/seed-0/run.json"))) == 1
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.output
    assert "[2/2] batch seed 0  goes on after step 1 of 3" in again.stderr
    assert_same(root / "undisturbed", folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "at", "only"),
    [
        ("full", 1, "plan.json"), ("eio", 2, "plan.json"), ("eio", 3, "study.yaml"), ("full", 1, ".states"),
        ("full", 20, ".states"), ("eio", 21, "runs/"), ("full", 22, "runs/"), ("eio", 2, "summary.json"),
        ("full", 1, "summary.csv"), ("eio", 1, "environment"), ("full", 2, "report.html"), ("eio", 4, "report.html"),
        ("eio", 1, "rmdir .states"), ("slow", 1, "replace"),
    ],
)  # fmt: skip
def test_a_fault_at_another_call(kind: str, at: int, only: str, root: Path) -> None:
    as_it_should_be(tried(root, kind, at, only), root, kind, at)


def test_the_layer_sees_every_way_to_write(tmp_path: Path) -> None:
    """Also by the system's numbers of files; what lies outside the folder it leaves alone."""
    fault = Fault("none", 0, str(tmp_path / "inside"), str(tmp_path / "log.txt"))
    with installed(fault):
        (tmp_path / "inside").mkdir()
        (tmp_path / "inside/a").write_text("text")
        with open(tmp_path / "inside/b", "wb") as file:
            file.write(b"bytes")
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp_path / "inside/a", tmp_path / "inside/c")
        number = os.open(tmp_path / "inside/d", os.O_WRONLY | os.O_CREAT)
        os.write(number, b"x")
        os.close(number)
        (tmp_path / "outside").write_text("text")
    assert calls(fault) == [
        "mkdir .", "create a", "write a", "create b", "write b", "fsync b", "replace a", "create d", "write d",
    ]  # fmt: skip
    assert [(tmp_path / "inside" / name).read_text() for name in "cbd"] == ["text", "bytes", "x"]
    assert os.open.__module__ == "posix"


@pytest.mark.slow
def test_the_processes_of_a_command_have_the_fault(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; print(subprocess.run([sys.executable, '-c', \"open('f', 'w')\"]).returncode)"
    )
    fault = Fault("full", 1, str(tmp_path), str(tmp_path.with_name("log.txt")))
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment(fault), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "1\n"
    assert "No space left on device" in done.stderr
