"""Code of others can raise, print and exit: the study goes on, says so, and stdout holds results alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnbench.base.user_code import guarded, is_interrupt, signals_handled, was_interrupted
from bnbench.cli.app import app

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
max_train_samples: 200
seeds: 1
variants: {none: {}, mine: {norm: mine}}
"""
PLUGIN = """
import atexit, ctypes, os, sys, torch
from bnbench.norms import norms
{before}
class Mine(torch.nn.Module):
    def forward(self, x):
        {inside}
        return x
@norms.register("mine")
def mine(num_features, dim):
    {factory}
    return Mine()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(STUDY)
    return tmp_path


def bnbench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bnbench", *words, "--plugin", "plug.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def write(folder: Path, before: str = "", inside: str = "pass", factory: str = "pass") -> None:
    (folder / "plug.py").write_text(PLUGIN.format(before=before, inside=inside, factory=factory))


@pytest.mark.parametrize(
    "statement",
    [
        "raise SystemExit(0)",
        "os._exit(0)",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "raise BaseException",
    ],
)
def test_what_ends_a_program_is_a_crash_and_a_gate_still_fails(statement: str, folder: Path) -> None:
    """In a layer: the other variant is trained, and the command's code is the gate's."""
    write(folder, inside=statement)
    words = [
        str(folder / "s.yaml"),
        "-q",
        "--output",
        str(folder / "out"),
        "--plugin",
        str(folder / "plug.py"),
    ]
    done = CliRunner().invoke(app, ["compare", *words, "--fail-if", "mine.test_accuracy < 0.99"])
    assert done.exit_code == 4, done.output
    assert "1 crashed" in done.stderr
    runs = json.loads((folder / "out/summary.json").read_text())["variants"]
    outcomes = {variant["name"]: variant["runs"][0]["outcome"] for variant in runs}
    assert outcomes["mine"] == "crashed"
    assert outcomes["none"] != "crashed"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_plugin_that_ends_the_program_when_it_is_imported_is_an_error(folder: Path) -> None:
    """In a process of its own, where os._exit would be the end."""
    write(folder, before="os._exit(0)")
    done = bnbench(folder, "compare", "s.yaml", "--fail-if", "mine.test_accuracy < 0.99")
    assert done.returncode == 1
    assert "plug.py:4: SystemExit: 0 (the code tried to end the program)" in done.stderr
    assert not (folder / "results").exists()


def test_check_of_a_factory_that_ends_the_program(folder: Path) -> None:
    write(folder, factory="sys.exit(0)")
    done = CliRunner().invoke(app, ["check", str(folder / "s.yaml"), "--plugin", str(folder / "plug.py")])
    assert done.exit_code == 1
    assert "variant mine: it can't be built: SystemExit: 0 (the code tried to end the program)" in done.stderr


@pytest.mark.slow
def test_what_a_plugin_prints_is_not_in_the_results(folder: Path) -> None:
    """From Python, C and child processes, at import, when the network is built, in training, and at the end."""
    shout = (
        "print('LOUD'); sys.__stdout__.write('LOUD'); os.system('echo LOUD'); ctypes.CDLL(None).puts(b'LOUD')"
    )
    write(folder, before=shout, inside=shout, factory=shout)
    done = bnbench(folder, "compare", "s.yaml", "--format", "csv")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == ["variant", "none", "mine"]
    assert done.stderr.count("LOUD") > 12


@pytest.mark.slow
def test_what_a_plugin_prints_in_a_worker_is_not_in_the_results(folder: Path) -> None:
    """Two jobs of seconds each go to workers, which are forked from another process."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("workers need two cores")
    write(folder, inside="torch.is_grad_enabled() and os.getppid() != 1 and os.write(1, b'LOUD')")
    many = ["seeds=2", "epochs=30", "model.hidden=[256, 256]", "max_train_samples=1200", "engine=sequential"]
    done = bnbench(folder, "compare", "s.yaml", *many, "--jobs", "2", "--format", "csv")
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        "variant",
        *["none"] * 2,
        *["mine"] * 2,
    ]
    assert "LOUD" in done.stderr


def test_guarded_leaves_the_process_as_found(capfd: pytest.CaptureFixture[str]) -> None:
    leave, stream = os._exit, sys.stdout
    with guarded():
        print("inside")
        with pytest.raises(SystemExit):
            os._exit(3)
    assert (os._exit, sys.stdout) == (leave, stream)
    print("after")
    captured = capfd.readouterr()
    assert captured.out == "after\n"
    assert "inside" in captured.err


def test_a_real_interrupt_is_told_from_one_that_code_raises() -> None:
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with signals_handled():
        assert not is_interrupt(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt) as raised:
            signal.raise_signal(signal.SIGTERM)
        assert is_interrupt(raised.value)
        assert was_interrupted()
        assert not is_interrupt(SystemExit())
    assert {number: signal.getsignal(number) for number in before} == before
    with signals_handled():
        assert not was_interrupted()


@pytest.mark.slow
def test_code_that_swallows_a_ctrl_c_does_not_keep_the_study_going(folder: Path) -> None:
    write(
        folder,
        before="import signal",
        inside="\n        try:\n            torch.is_grad_enabled() and os.kill(os.getpid(), signal.SIGINT)"
        "\n        except BaseException:\n            pass",
    )
    done = bnbench(folder, "compare", "s.yaml", "epochs=50", "engine=sequential")
    assert done.returncode == 130, done.stderr
