"""What the engine reports while it trains. Listeners hear the events; the results folder keeps each run's last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bnbench.study.plan import RunSpec
from bnbench.study.records import Extras, HistoryRow, ProbeRow, RunRecord, TestSamples


@dataclass(frozen=True)
class RunStarted:
    """A run is about to take its first step, or the one after `step` where it goes on from a kept state."""

    run: RunSpec
    planned_steps: int
    epochs: float
    notes: tuple[str, ...] = ()
    step: int = 0


@dataclass(frozen=True)
class Stepped:
    """Progress by a few steps (sent a few times a second, and at the end of an epoch)."""

    run: RunSpec
    step: int


@dataclass(frozen=True)
class Evaluated:
    """The model was evaluated."""

    run: RunSpec
    row: HistoryRow


@dataclass(frozen=True)
class RunEnded:
    """A run is over, one way or another. weights: its last state_dict; None where it crashed, as are samples.

    sheets: images that its network made, by way of inference; see `bnbench.results.sheets`. kept: whether its files
    lie in the results folder already, as of a run that another machine trained; it comes without weights and samples.
    """

    run: RunSpec
    record: RunRecord
    weights: Mapping[str, Any] | None = field(default=None, repr=False)
    samples: TestSamples | None = field(default=None, repr=False)
    probes: tuple[ProbeRow, ...] = field(default=(), repr=False)
    sheets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    kept: bool = False

    @property
    def extras(self) -> Extras:
        """What is kept beside its record and its weights."""
        return Extras(self.samples, self.probes, self.sheets)


@dataclass(frozen=True)
class RunPaused:
    """A run stops before its end, its state kept at `step`: the same command goes on from there.

    reason: "time limit", or the signal that asked for it.
    """

    run: RunSpec
    step: int
    reason: str


Event = RunStarted | Stepped | Evaluated | RunEnded | RunPaused
