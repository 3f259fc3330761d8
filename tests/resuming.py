"""Runs that are paused at a step and go on from their state, in memory: whatever they do, no bit may differ."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.data.augmentations import augmentation_of
from bnbench.data.prepared import Prepared
from bnbench.engine.batch_stream import planned_steps
from bnbench.engine.library import Library
from bnbench.engine.loop import train_replicas
from bnbench.engine.state.keeping import Handling, Keeping, States
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import Evaluated, Event, RunEnded, RunPaused, RunStarted
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord
from tests.training import chosen_for

CPU = torch.device("cpu")
#: What of a record may differ: seconds, and the circumstances of a run.
_FREE = {"train_seconds": 0.0, "probe_seconds": 0.0, "environment": {}}


class Memory:
    """States in memory. change: of the bytes of each, when it is read."""

    def __init__(self, change: Callable[[bytes], bytes] = lambda content: content) -> None:
        self.kept: dict[tuple[str, int], dict[int, bytes]] = {}
        self.change = change

    def keep(self, run: RunSpec, step: int, content: bytes) -> None:
        self.kept.setdefault(run.key, {})[step] = content

    def steps(self, run: RunSpec) -> tuple[int, ...]:
        return tuple(sorted(self.kept.get(run.key, ()), reverse=True))

    def read(self, run: RunSpec, step: int) -> bytes:
        return self.change(self.kept[run.key][step])

    def drop(self, run: RunSpec) -> None:
        self.kept.pop(run.key, None)


@dataclass(frozen=True)
class Study:
    """One cell: its settings and its data."""

    settings: Settings
    data: Prepared

    @property
    def steps(self) -> int:
        """Of a run."""
        return planned_steps(self.settings, self.data)

    def runs(self, seeds: Sequence[int]) -> list[RunSpec]:
        """Its runs of these seeds."""
        return [RunSpec("v", {}, seed, "cell", self.settings) for seed in seeds]


#: An epoch of it has 3 batches.
TEXT = """
dataset: digits
max_train_samples: 100
max_eval_samples: 40
model: {name: mlp, hidden: [6]}
optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
batch_size: 32
steps: 8
evaluate_every: 3
"""


def study_of(vocabulary: Vocabulary, folder: Path, changes: Sequence[str] = (), text: str = "") -> Study:
    """A study that trains in a moment, with these changes."""
    path = folder / "s.yaml"
    path.write_text(text or TEXT)
    (settings,) = load_study(path, list(changes), vocabulary).variants.values()
    return Study(settings, Library(folder, CPU).prepared(settings.for_seed(0)))


def trained(
    given: Study,
    seeds: Sequence[int],
    states: States | None = None,
    pause_at: int | None = None,
    each: bool = False,
    **keeping: Any,
) -> list[Event]:
    """All events of these runs, as one group. pause_at: the step after which they are asked to pause.

    each: run after run, each asked at that step. keeping: of `Keeping`.
    """
    if each:
        return [event for seed in seeds for event in trained(given, [seed], states, pause_at, **keeping)]
    runs, settings = given.runs(seeds), given.settings
    choice = chosen_for(settings, given.data.sizes)
    kept = Keeping(states, **{"every": 1e9, **keeping})
    with pytest.MonkeyPatch.context() as patch:
        if pause_at is not None:
            patch.setattr("bnbench.engine.loop.pause_reason", _asked_at(pause_at))
        augmentation = augmentation_of(settings.augment)
        handling = Handling(keeping=kept)
        return list(train_replicas(runs, given.data, augmentation, CPU, choice, handling))


def _asked_at(step: int) -> Callable[[Keeping], str]:
    """In place of the loop's question, which it asks before a group and before each step."""

    def reason(keeping: Keeping) -> str:
        caller = sys._getframe(1).f_locals
        return "asked" if caller.get("step", -1) >= step else ""

    return reason


def pause_and_go_on(given: Study, seeds: Sequence[int], *steps: int) -> None:
    """Runs as one group: undisturbed; then paused after each of these steps, and gone on with. No bit differs."""
    whole = ends(trained(given, seeds))
    for step in steps:
        _from(given, seeds, step, whole)


def _from(given: Study, seeds: Sequence[int], step: int, whole: Mapping[int, RunEnded]) -> None:
    states = Memory()
    first = trained(given, seeds, states, step)
    assert paused(first) == dict.fromkeys(seeds, step), "it does not pause where it is asked to"
    second = trained(given, seeds, states)
    assert [event.step for event in second if isinstance(event, RunStarted)] == [step] * len(seeds)
    assert not step or all(event.row.step > step for event in second if isinstance(event, Evaluated))
    for seed, event in ends(second).items():
        assert_equal(whole[seed], event)
        if step:
            assert event.record.environment["resumed"] == [{"step": step, "elsewhere": {}}]


def ends(events: Sequence[Event]) -> dict[int, RunEnded]:
    """By seed."""
    return {event.run.seed: event for event in events if isinstance(event, RunEnded)}


def paused(events: Sequence[Event]) -> dict[int, int]:
    """By seed, the step that a run paused at."""
    return {event.run.seed: event.step for event in events if isinstance(event, RunPaused)}


def numbers(record: RunRecord) -> RunRecord:
    """Without what may differ."""
    history = tuple(replace(row, train_seconds=0.0) for row in record.history)
    return replace(record, **_FREE, history=history)  # type: ignore[arg-type]


def assert_equal(one: RunEnded, other: RunEnded) -> None:
    """To the last bit: records but for seconds and environment, weights, samples, sheets, rows of probes."""
    records = [vars(numbers(event.record)) for event in (one, other)]
    assert [*map(repr, records[0].items())] == [*map(repr, records[1].items())]
    assert repr(one.probes) == repr(other.probes)
    for a, b in ((one.weights, other.weights), (one.sheets, other.sheets), (_arrays(one), _arrays(other))):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.keys() == b.keys()
            for name in a:
                assert np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes(), name


def _arrays(event: RunEnded) -> dict[str, Any]:
    samples = event.samples
    if samples is None:
        return {}
    return {"right": samples.right, "loss": samples.loss, **samples.further}
