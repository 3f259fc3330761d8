"""What is decided before training is decided once: networks that are built and engines that are chosen, counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import bnbench
from bnbench.engine import schedule
from bnbench.engine.backends import torch as torch_backend

PLUGIN = """
import os
from torch import nn
from bnbench.models import models
from bnbench.models.layers import linear_block

@models.register("counted")
def counted(input_shape, num_classes, norm, *, hidden: int = 12):
    '''A network that notes in which process it is built.'''
    with open(NOTES, "a") as notes:
        notes.write(f"{os.getpid()}\\n")
    return nn.Sequential(nn.Flatten(), linear_block(64, hidden, norm), nn.Linear(hidden, num_classes))
"""
STUDY = {
    "dataset": "digits",
    "model": "counted",
    "optimizer": {"name": "sgd", "lr": 0.05},
    "epochs": 1,
    "max_train_samples": 128,
    "seeds": 3,
    "variants": {"none": {"norm": "none"}, "batch": {"norm": "batch"}, "layer": {"norm": "layer"}},
}


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the plugin notes the process of every network that is built."""
    path = tmp_path / "notes"
    # not by the environment: workers have that of the server, which an earlier test may have started
    (tmp_path / "plug.py").write_text(PLUGIN.replace("NOTES", repr(str(path))))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that were chosen."""
    engines: list[str] = []
    choose = torch_backend.choose

    def noted(*arguments: Any) -> Any:
        choice = choose(*arguments)
        engines.append(choice.engine)
        return choice

    monkeypatch.setattr(torch_backend, "choose", noted)
    return engines


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_a_study_builds_one_network_a_cell_and_one_a_run(
    engine: str, notes: Path, choices: list[str]
) -> None:
    comparison = bnbench.compare(STUDY, overrides={"engine": engine}, plugins="plug.py", jobs=1)
    assert len(comparison.runs) == 9
    assert len(notes.read_text().split()) == 3 + 9
    assert choices == [engine] * 3


def test_one_run_builds_two_networks(notes: Path, choices: list[str]) -> None:
    """One to decide, one to train: the double of a lone replica is a copy."""
    bnbench.compare(
        STUDY, overrides={"variants": {"batch": {"norm": "batch"}}}, seeds=1, plugins="plug.py", jobs=1
    )
    assert len(notes.read_text().split()) == 2
    assert choices == ["stacked"]


def test_cells_that_differ_in_a_rate_share_the_network_that_decides(notes: Path, choices: list[str]) -> None:
    sweep = {"optimizer.lr": [0.01, 0.02, 0.05]}
    bnbench.compare(STUDY, overrides={"sweep": sweep}, seeds=1, plugins="plug.py", jobs=1)
    assert len(notes.read_text().split()) == 3 + 9
    assert len(choices) == 9


def test_workers_are_sent_the_choice(
    notes: Path, choices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "WORTH_WORKERS", 0.0)
    comparison = bnbench.compare(STUDY, plugins="plug.py", jobs=2)
    assert len(comparison.runs) == 9
    processes = notes.read_text().split()
    assert (
        processes.count(str(os.getpid())) == 3 + 3
    )  # one a cell decides, and one measures the memory of its job
    assert len(processes) == 3 + 3 + 9
    assert choices == ["stacked"] * 3


def test_a_finished_study_is_only_rehearsed(notes: Path) -> None:
    for _ in range(2):
        bnbench.compare(STUDY, plugins="plug.py", jobs=1)
    assert len(notes.read_text().split()) == 12 + 3


def test_check_builds_networks_to_decide_to_time_and_to_measure_memory(
    notes: Path, choices: list[str]
) -> None:
    bnbench.check(STUDY, plugins="plug.py")
    assert len(notes.read_text().split()) == 3 + 3 + 3
    assert len(choices) == 3
