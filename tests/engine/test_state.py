"""Whoever listens to a run may draw random numbers: the run keeps its bits, and the listener its stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bnbench
from bnbench.base.process_state import in_private
from bnbench.base.registry import Entry
from bnbench.data import Dataset
from bnbench.data.prepared import Prepared
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer, linear_block
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord
from tests.prepared import prepare
from tests.training import execute

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Prepared:
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(200, 1, 4, 4, generator=draw), torch.arange(200) % 4
    dataset = Dataset(images, labels, images[:40], labels[:40], ("a", "b", "c", "d"), "made up")
    return prepare(dataset, val_fraction=0.2, split_seed=0, max_train_samples=None, device=CPU)


class _Draws(nn.Module):
    """A user's layer that draws from all three global streams, in training and in evaluation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.randn_like(x) + float(np.random.randn()) + random.random()
        return x + 0.1 * noise


def _drawing(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), linear_block(16, 12, norm), nn.Dropout(0.3), _Draws(), nn.Linear(12, num_classes)
    )


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    models.names()
    monkeypatch.setitem(models._entries, "drawing", Entry("drawing", _drawing, ModelFacts()))

    def make(model: str, *changes: str) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [12]}\noptimizer: {name: sgd, lr: 0.05}\n"
            "epochs: 2\nevaluate_every: 2\n"
        )
        (variant,) = load_study(path, changes, vocabulary).variants.values()
        if model == "drawing":
            drawn = variant.model.model_copy(update={"name": model, "options": {}})
            return variant.model_copy(update={"model": drawn})
        return variant

    return make


def quiet() -> None:
    """A listener that draws nothing."""


def restless() -> None:
    """A listener that draws, and seeds every stream."""
    torch.rand(3), np.random.rand(2), random.random()
    torch.manual_seed(12), np.random.seed(12), random.seed(12)
    torch.set_num_threads(1)


def record_of(settings: Settings, data: Prepared, listen: Callable[[], None]) -> RunRecord:
    class OneSet:
        def prepared(self, settings: Settings) -> Prepared:
            return data

    for event in execute([RunSpec("v", {}, 3, "cell", settings)], OneSet(), CPU, debug=True):  # type: ignore[arg-type]
        listen()
        if isinstance(event, RunEnded):
            return event.record
    raise AssertionError("no RunEnded")


KERAS = pytest.param(
    "mlp",
    "framework=keras",
    "keras",
    marks=[
        pytest.mark.keras,
        pytest.mark.skipif(find_spec("tensorflow") is None, reason="no TensorFlow"),
    ],
)


#: A network, a change of its settings, and the engine that trains it.
ENGINES = [
    ("drawing", "norm=none", "sequential"),
    ("drawing", "engine=compiled", "compiled"),
    ("mlp", "norm=batch_noisy", "stacked"),
    ("mlp", "norm=batch", "stacked"),
    KERAS,
]


@pytest.mark.parametrize(("model", "change", "engine"), ENGINES)
def test_a_listener_that_draws_changes_no_bit(
    model: str,
    change: str,
    engine: str,
    settings: Any,
    data: Prepared,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bnbench.engine.steppers.compiled.torch.compile", lambda model, **_: model)
    chosen = settings(model, change)
    alone, heard = record_of(chosen, data, quiet), record_of(chosen, data, restless)
    assert alone.step_losses == heard.step_losses
    assert [row.metrics for row in alone.history] == [row.metrics for row in heard.history]
    assert alone.final == heard.final
    assert alone.environment["engine"] == heard.environment["engine"] == engine


DROPOUT = """
from torch import nn
from bnbench.models import models
from bnbench.models.layers import linear_block

@models.register("dropout")
def dropout(input_shape, num_classes, norm):
    '''A network whose training draws random numbers.'''
    return nn.Sequential(nn.Flatten(), linear_block(64, 12, norm), nn.Dropout(0.5), nn.Linear(12, num_classes))
"""


def test_a_study_hears_no_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the public function on: the same numbers with and without, and the caller's streams go on as they were."""
    monkeypatch.chdir(tmp_path)
    Path("plug.py").write_text(DROPOUT)
    study = {
        "dataset": "digits",
        "model": "dropout",
        "optimizer": {"name": "sgd", "lr": 0.05},
        "epochs": 2,
        "evaluate_every": 2,
        "max_train_samples": 128,
        "seeds": 2,
        "variants": {"none": {"norm": "none"}, "batch": {"norm": "batch"}},
    }

    def history(listen: Callable[[Event], None], output: str) -> list[dict[str, Any]]:
        done = bnbench.compare(study, listeners=listen, plugins="plug.py", jobs=1, output=output)
        return [{key: row[key] for key in row if key != "train_seconds"} for row in done.history]

    drawn: list[float] = []

    def noting(event: Event) -> None:
        drawn.append(float(torch.rand(())) + np.random.rand() + random.random())

    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    quietly = history(lambda event: None, "quiet")
    assert history(noting, "noting") == quietly
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    assert drawn == [float(torch.rand(())) + np.random.rand() + random.random() for _ in drawn]
    assert history(lambda event: restless(), "restless") == quietly


@pytest.mark.parametrize("engine", ["sequential", "auto"])
def test_the_listeners_own_streams_are_its_own(engine: str, settings: Any, data: Prepared) -> None:
    def draws(between: Iterator[Event]) -> list[float]:
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        return [float(torch.rand(())) + np.random.rand() + random.random() for _ in between]

    chosen = settings("drawing", f"engine={engine}")
    spec = [RunSpec("v", {}, 0, "cell", chosen)]

    class OneSet:
        def prepared(self, settings: Settings) -> Prepared:
            return data

    heard = draws(execute(spec, OneSet(), CPU, debug=True))  # type: ignore[arg-type]
    assert heard == draws(iter(range(len(heard))))  # type: ignore[arg-type]


def test_threads_are_left_as_found(settings: Any, data: Prepared) -> None:
    """A small network trains on one thread; the process that asked for it has its own number, all the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen: list[int] = []
        record = record_of(settings("mlp"), data, lambda: seen.append(torch.get_num_threads()))
        assert record.environment["num_threads"] == 1
        assert set(seen) == {3}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_run_that_is_left_half_way_leaves_no_trace() -> None:
    closed: list[bool] = []

    def run() -> Any:
        try:
            while True:
                yield float(torch.rand(()))
        finally:
            closed.append(True)

    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    events = in_private(run, 5, CPU)
    first = next(events)
    assert float(torch.rand(())) == expected[0]
    events.close()
    assert closed == [True]
    assert float(torch.rand(())) == expected[1]
    assert first == next(in_private(run, 5, CPU)) != expected[0]
