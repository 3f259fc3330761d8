"""`torchrun -m bnbench compare`: equal to one process, one voice, a killed rank, the same command again, refusals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import bnbench
from tests.same_results import leftovers

STUDY = """
dataset: digits
model: {name: mlp, hidden: [16]}
optimizer: {name: sgd, lr: 0.1}
batch_size: 64
steps: 30
evaluate_every: 10
seeds: 1
variants:
  layer: {norm: layer}
  sync:  {norm: sync}
"""
Write = Callable[[str], Path]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    stated = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return {**os.environ, **{name: str(value) for name, value in stated.items()}, "OMP_NUM_THREADS": "1"}


def start(words: Sequence[str], size: int = 2) -> list[subprocess.Popen[str]]:
    """The processes of a command, as torchrun starts them."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "bnbench", *words],
            env=environment(rank, size, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """The exit code of each, and all that it printed."""
    results = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        results.append((process.returncode, out + err))
    return results


def alone(words: Sequence[str], **changes: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **changes}
    command = [sys.executable, "-m", "bnbench", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_two_processes_have_the_results_of_one(write_study: Write, tmp_path: Path) -> None:
    study = str(write_study(STUDY))
    (code, said), (other_code, other_said) = ended(
        start(["compare", study, "--output", str(tmp_path / "two")])
    )
    assert code == other_code == 0, said
    assert other_said == ""
    assert "one run on 2 processes (gloo)" in said
    one = bnbench.compare(study, output=tmp_path / "one")
    two = bnbench.load(tmp_path / "two")
    for run, same in zip(two.runs, one.runs, strict=True):
        assert run["final_test_accuracy"] == same["final_test_accuracy"]
        assert run["final_test_loss"] == pytest.approx(same["final_test_loss"], rel=1e-5)
    # `layer` and `sync` are the same runs on any number of processes
    assert _runs(tmp_path / "two") == _runs(tmp_path / "one")
    # statistics by process are another experiment, and one folder does not hold both
    (code, said), (other_code, _) = ended(
        start(["compare", study, "variants.layer.norm=batch", "--output", str(tmp_path / "two")])
    )
    assert code == other_code == 1
    assert "another" in said or "differ" in said or "other" in said
    assert not leftovers(tmp_path / "two")


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_the_same_command_goes_on(write_study: Write, tmp_path: Path) -> None:
    study, folder = str(write_study(STUDY.replace("steps: 30", "steps: 400"))), tmp_path / "killed"
    words = ["compare", study, "--output", str(folder), "--save-every", "0"]
    processes = start(words)
    deadline = time.monotonic() + 120
    while not list(folder.glob(".states/*/*/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    (code, said), _ = ended(processes)
    assert code == 1, said
    assert "rank 1 of 2 is gone" in said
    assert "Traceback" not in said
    (code, said), _ = ended(start([*words[:-2], "--save-every", "30"]))
    assert code == 0, said
    assert "goes on after step" in said
    undisturbed = ended(start(["compare", study, "--output", str(tmp_path / "whole")]))
    assert undisturbed[0][0] == 0
    assert _losses(folder) == _losses(tmp_path / "whole")
    assert not leftovers(folder)


def _runs(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("runs/*/*")}


def _losses(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.glob("runs/**/steps.csv")}


NETWORK = """
import os, torch
from torch import nn

class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
        self.calls = 0

    def forward(self, x):
        self.calls += self.training and torch.is_grad_enabled()
        if self.calls == 8 and os.environ["RANK"] == "1" and isinstance(self.layers[2], nn.LayerNorm):
            raise ValueError("not on this rank")
        return self.layers(x)
"""


@pytest.mark.slow
def test_a_run_that_raises_on_one_rank_crashes_alone(write_study: Write, tmp_path: Path) -> None:
    (tmp_path / "choosy.py").write_text(NETWORK)
    words = ["--model", f"{tmp_path / 'choosy.py'}:Choosy", "--output", str(tmp_path / "one")]
    (code, said), (other_code, _) = ended(start(["compare", str(write_study(STUDY)), *words]))
    assert code == other_code == 3, said
    assert "layer seed 0  crashed: rank 1: ValueError: not on this rank" in said
    outcomes = {run["variant"]: run["outcome"] for run in bnbench.load(tmp_path / "one").runs}
    assert outcomes == {"layer": "crashed", "sync": "finished"}


@pytest.mark.slow
def test_refusals_end_all_with_one_message(write_study: Write, tmp_path: Path) -> None:
    study = str(write_study(STUDY))
    (code, said), (other_code, other_said) = ended(start(["compare", study, "--jobs", "2"]))
    assert (code, other_code, other_said) == (2, 2, "")
    assert "--jobs 2: under torchrun" in said
    (code, said), (other_code, other_said) = ended(
        start(["compare", study, "batch_size=1", "last_batch=drop"])
    )
    assert (code, other_code, other_said) == (1, 1, "")
    assert "batch_size: 1, and one run is on 2 processes" in said


@pytest.mark.slow
def test_a_rank_without_a_master_is_refused(write_study: Write) -> None:
    done = alone(["compare", str(write_study(STUDY))], RANK="0", WORLD_SIZE="2")
    assert done.returncode == 2
    assert "MASTER_ADDR, MASTER_PORT are not" in done.stderr
    assert alone(["--version"], RANK="0", WORLD_SIZE="2").returncode == 0
