"""When states are kept, what it costs, and what happens where they can't be: by a clock that the test moves."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bnbench.base import stopping
from bnbench.base.errors import ResultsError
from bnbench.base.registry import Entry
from bnbench.engine.execute import Trainer
from bnbench.engine.state import saving
from bnbench.engine.state.keeping import Keeping
from bnbench.models import ModelFacts, models
from bnbench.study.events import RunPaused, RunStarted
from bnbench.study.plan import RunSpec
from tests.resuming import CPU, Memory, Study, assert_equal, ends, paused, study_of, trained
from tests.training import OneSet, chosen_for


@pytest.fixture
def study(vocabulary: Any, tmp_path: Any) -> Study:
    """Eight steps of a stack."""
    return study_of(vocabulary, tmp_path, ["engine=stacked", "norm=batch"])


class Steps(Memory):
    """States that are kept, and the steps of each, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[tuple[int, int]] = []

    def keep(self, run: RunSpec, step: int, content: bytes) -> None:
        super().keep(run, step, content)
        self.order.append((run.seed, step))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the loop."""
    now = [1000.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    return now


def ticking(monkeypatch: pytest.MonkeyPatch, now: list[float], seconds: float = 1.0) -> None:
    """Let the clock of a run go on by so many seconds in each of its steps."""
    from bnbench.engine.loop import Training

    train_step = Training.train_step

    def timed(self: Training, *arguments: Any) -> torch.Tensor:
        now[0] += seconds
        return train_step(self, *arguments)

    monkeypatch.setattr(Training, "train_step", timed)


def test_a_state_each_interval(study: Study, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds, of all runs; none before, and none at the end."""
    ticking(monkeypatch, clock)
    states = Steps()
    trained(study, [3, 4], states, every=2.0)
    assert states.order == [(seed, step) for step in (2, 4, 6) for seed in (3, 4)]


def test_no_state_of_a_short_run(study: Study) -> None:
    states = Steps()
    trained(study, [3], states, every=30.0)
    assert states.order == []


def test_a_long_save_has_longer_intervals(
    study: Study, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save of 0.5 s is more than the usual interval allows, 1 % of 30 s: 2 s become 2 * 0.5 / 0.3 s."""
    ticking(monkeypatch, clock)

    class Slow(Steps):
        def keep(self, run: RunSpec, step: int, content: bytes) -> None:
            super().keep(run, step, content)
            clock[0] += 0.5

    states = Slow()
    trained(study, [3], states, every=2.0)
    assert states.order == [(3, 2), (3, 6)]


def test_the_clock_of_training_stands_still(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save keeps the processor busy for 0.03 s, and none of that is training time."""

    class Slow(Steps):
        def keep(self, run: RunSpec, step: int, content: bytes) -> None:
            super().keep(run, step, content)
            end = time.thread_time() + 0.03
            while time.thread_time() < end:
                pass

    states = Slow()
    (ended,) = ends(trained(study, [3], states, every=0.0)).values()
    assert len(states.order) == study.steps
    assert ended.record.train_seconds < 0.03 * study.steps


def test_seconds_add_up(study: Study) -> None:
    """Those before a pause count: the sum is that of the state and of what came after."""
    states = Memory()
    trained(study, [3], states, 6)
    (ended,) = ends(trained(study, [3], states)).values()
    seconds = [row.train_seconds for row in ended.record.history]
    assert seconds == sorted(seconds)
    assert ended.record.train_seconds >= seconds[-2] > seconds[1] > 0


class Full(Memory):
    """A disk that is full."""

    def keep(self, run: RunSpec, step: int, content: bytes) -> None:
        raise ResultsError("results: can't be written: No space left.", fix="free some space.")


def test_a_full_disk_ends_no_run(study: Study) -> None:
    """It goes on, with the same numbers, and says in its notes what was wrong."""
    (whole,) = ends(trained(study, [3])).values()
    (ended,) = ends(trained(study, [3], Full(), every=0.0)).values()
    (note,) = set(ended.record.notes) - set(whole.record.notes)
    assert "No space left" in note
    assert_equal(whole, replace(ended, record=replace(ended.record, notes=whole.record.notes)))


def test_a_pause_at_the_deadline(study: Study, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at once a step; the state is kept, and the run says where it goes on."""
    ticking(monkeypatch, clock)
    states = Steps()
    events = trained(study, [3, 4], states, deadline=1003.0)
    ended = [event for event in events if isinstance(event, RunPaused)]
    assert [(event.run.seed, event.step, event.reason) for event in ended] == [
        (3, 3, "time limit"),
        (4, 3, "time limit"),
    ]
    assert states.order == [(3, 3), (4, 3)]


def test_a_wish_to_stop(study: Study) -> None:
    """A signal's handler states it; nothing is lost by it, and runs that wait do not start."""
    stopping.ask_to_stop("SIGTERM")
    try:
        events = trained(study, [3], Memory())
    finally:
        stopping.go_on()
    (pause,) = [event for event in events if isinstance(event, RunPaused)]
    assert (pause.step, pause.reason) == (0, "SIGTERM")
    assert not ends(events)


def test_never_resumed(study: Study) -> None:
    """With `resume` off a state that is there is not looked at."""
    states = Memory()
    trained(study, [3], states, 4)
    events = trained(study, [3], states, resume=False)
    assert [event.step for event in events if isinstance(event, RunStarted)] == [0]


def test_a_run_that_crashes_on_its_state_begins_again(
    vocabulary: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a layer refuses a counter that no run reaches by itself."""
    models.names()

    class Refuses(nn.Module):
        number = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.number += self.training
            if self.number > 100:
                raise RuntimeError("that can't be")
            return x

    def build(input_shape: Any, num_classes: int, norm: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Refuses(), nn.Linear(64, num_classes))

    monkeypatch.setitem(models._entries, "user", Entry("user", build, ModelFacts()))
    given = study_of(vocabulary, tmp_path, ["engine=sequential", "norm=none"])
    chosen = given.settings.model.model_copy(update={"name": "user", "options": {}})
    given = replace(given, settings=given.settings.model_copy(update={"model": chosen}))
    (whole,) = ends(trained(given, [3])).values()
    states = Memory()
    assert paused(trained(given, [3], states, 4)) == {3: 4}
    states.kept["v", 3][4] = _grown(states.kept["v", 3][4])
    trainer = Trainer(OneSet(given.data), CPU, keeping=Keeping(states, every=1e9))
    choice = chosen_for(given.settings, given.data.sizes)
    events = list(trainer.train(given.runs([3]), choice))
    assert [event.step for event in events if isinstance(event, RunStarted)] == [4, 0]
    assert_equal(whole, ends(events)[3])


def _grown(content: bytes) -> bytes:
    """The same state with a counter of 999."""
    from bnbench.engine.state.content import Content

    state = Content.of(content)

    def put(node: Any) -> None:
        if isinstance(node, list):
            if len(node) == 2 and node[0] == "number":
                node[1] = 999
            for item in node:
                put(item)

    put(state.node)
    return state.to_bytes()
