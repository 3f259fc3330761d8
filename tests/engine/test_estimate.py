"""`check`: what it times, how long, and what of it is evaluation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bnbench.engine import estimate as module
from bnbench.engine.cell import Cell
from bnbench.engine.choose import EngineChoice
from bnbench.engine.estimate import estimate_study
from bnbench.engine.library import Library
from bnbench.engine.loop import Training
from bnbench.study import Vocabulary, load_study
from bnbench.study.plan import RunSpec

CPU = torch.device("cpu")
TEXT = """
dataset: digits
model: {name: mlp, hidden: [16]}
optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
epochs: 3
variants: {none: {}, batch: {norm: batch}, slow: {norm: {name: batch, momentum: 0.01}}}
sweep: {optimizer.lr: [0.001, 0.01, 0.1]}
"""


def test_cells_of_one_network_are_timed_once(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 variants x 3 rates, two of them batch norm: two networks. Other batch sizes are other work."""
    timed: list[str] = []
    timing = module._timing

    def noted(cell: Cell, *rest: Any) -> module.Timing:
        timed.append(cell.runs[0].label)
        return timing(cell, *rest)

    monkeypatch.setattr(module, "_timing", noted)
    (tmp_path / "s.yaml").write_text(TEXT)
    told: list[str] = []
    study = load_study(tmp_path / "s.yaml", [], vocabulary)
    found = estimate_study(study, CPU, Library(tmp_path, CPU), told.append)
    assert len(found) == 9
    assert timed == ["none @ optimizer.lr=0.001", "batch @ optimizer.lr=0.001"]
    assert told[0] == "Looking at 9 networks"
    assert [text.endswith(f"({i} of 2)") for i, text in enumerate(told[1:], 1)] == [True, True]
    timed.clear()
    other = load_study(tmp_path / "s.yaml", ["sweep={batch_size: [16, 32]}"], vocabulary)
    estimate_study(other, CPU, Library(tmp_path, CPU))
    assert len(timed) == 4


def test_the_share_of_evaluation_follows_how_often_it_is_done(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Samples evaluated: (evaluations + 1) x (1617 + 180) + 2 x 180, on made-up seconds a step and a sample."""
    (tmp_path / "s.yaml").write_text(TEXT)

    def shares(every: str) -> tuple[float, float]:
        changes = [f"evaluate_every={every}", "sweep=null", "validation.fraction=0.1"]
        study = load_study(tmp_path / "s.yaml", changes, vocabulary)
        settings = study.variants["none"]
        shape = module.shape_of(settings, Library(tmp_path, CPU))
        steps = math.ceil(shape.num_train / settings.batch_size) * settings.epochs
        run = RunSpec("none", {}, 0, "", settings)
        decided = Cell((run,), EngineChoice("stacked", 1), steps, num_parameters=10)
        cell = module._estimate("none", decided, shape, module.Timing(0.01, 0.001))
        samples = cell.evaluation_seconds / 0.001
        counted = min(5000, shape.num_train) + shape.num_val
        return (samples - 2 * shape.num_test) / counted, cell.seconds - cell.evaluation_seconds

    steps = shares("epoch")[1] / 0.01
    assert shares("epoch")[0] == pytest.approx(4)
    assert shares("1")[0] == pytest.approx(steps + 1)
    assert shares("1")[1] == pytest.approx(shares("epoch")[1])


def test_a_long_step_is_timed_by_a_part_of_its_batch(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """The time that one timing may take bounds the samples of its steps, whatever the batch."""
    (tmp_path / "s.yaml").write_text(TEXT.replace("{name: mlp, hidden: [16]}", "resnet20"))
    study = load_study(tmp_path / "s.yaml", ["batch_size=512", "sweep=null"], vocabulary)
    settings = study.variants["none"]
    shape = module.shape_of(settings, Library(tmp_path, CPU))
    data = module._made_up(settings, shape, CPU)
    run = RunSpec("none", {}, 0, "", settings)
    training = Training([run], data, None, CPU, EngineChoice("sequential", 1))
    sizes: list[int] = []
    step = training.train_step

    def noted(index: int, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        sizes.append(labels.shape[1])
        return step(index, images, labels)

    training.train_step = noted  # type: ignore[method-assign]
    seconds = module._timed_steps(training, settings.batch_size, CPU, 0.001)
    assert set(sizes) == {8}
    assert seconds > 0
