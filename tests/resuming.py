"""Runs that are paused at a step and go on from their state, in memory: whatever they do, no bit may differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.data.augmentations import augmentation_of
from bnbench.data.prepared import Prepared
from bnbench.engine.loop import train_replicas
from bnbench.engine.state.keeping import Handling, Keeping
from bnbench.study.events import Event, RunEnded, RunPaused
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


def trained(
    runs: Sequence[RunSpec], data: Prepared, states: Memory | None = None, pause_at: int | None = None
) -> list[Event]:
    """All events of these runs, as one group. pause_at: the step after which they are asked to pause."""
    settings = runs[0].settings
    choice, keeping = chosen_for(settings, data.sizes), Keeping(states, every=1e9)
    with pytest.MonkeyPatch.context() as patch:
        if pause_at is not None:
            patch.setattr("bnbench.engine.loop.pause_reason", _asked_at(pause_at, states, runs))
        augmentation = augmentation_of(settings.augment)
        return list(train_replicas(runs, data, augmentation, CPU, choice, Handling(keeping=keeping)))


def _asked_at(step: int, states: Memory | None, runs: Sequence[RunSpec]) -> Callable[[Keeping], str]:
    """The loop asks once before a group, and then before each of its steps, from where it goes on."""
    begun = min((max(states.steps(run), default=0) for run in runs), default=0) if states else 0
    calls = iter(range(begun - 1, 10**9))
    return lambda keeping: "asked" if next(calls) >= step else ""


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
    assert repr(numbers(one.record)) == repr(numbers(other.record))
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
