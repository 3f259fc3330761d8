"""What still fits into a command's time, from what the runs of this command took so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bnbench.engine.cell import Cell
from bnbench.engine.state.keeping import Keeping
from bnbench.study.events import Evaluated, Event, RunEnded, RunPaused, RunStarted, Stepped

#: A run must fit with this much to spare: the machine may be busier than it was.
TO_SPARE = 1.2
#: Seconds after the deadline in which runs save their states.
GRACE = 10.0
#: Less of a job than this share says nothing about its time: it goes by in the first steps.
LEAST_SHARE = 0.02

_Key = tuple[str, int]


@dataclass
class _Job:
    """A job that was started. predicted: its seconds. steps: of a run. first: where each run began. at: where it is."""

    label: str
    predicted: float
    steps: int
    began: float
    first: dict[_Key, int]
    at: dict[_Key, int] = field(default_factory=dict)
    now: float = 0.0

    def measured(self) -> tuple[float, float]:
        """Seconds that it took so far, and those predicted for that."""
        shares = [
            max(0, self.at.get(key, first) - first) / max(1, self.steps) for key, first in self.first.items()
        ]
        share = sum(shares) / len(shares)
        return (self.now - self.began, share * self.predicted) if share >= LEAST_SHARE else (0.0, 0.0)


class TimeLeft:
    """Judges whether a job fits before the deadline.

    A job's predicted seconds, which are good for comparing jobs alone, are multiplied by how much longer than predicted
    the runs of its variant took so far in this command, or all runs where that variant had none. Where nothing was
    measured yet, a job is started all the same: it saves its state at the deadline, so each command makes progress.

    measured: jobs of the command so far, which its studies share.
    """

    def __init__(
        self, keeping: Keeping, measured: list[_Job], now: Callable[[], float] = lambda: time.monotonic()
    ) -> None:
        self._keeping, self._jobs, self._now = keeping, measured, now
        self._of_run: dict[_Key, _Job] = {}

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        deadline = self._keeping.deadline
        return deadline is not None and self._now() >= deadline

    @property
    def gives_up(self) -> float | None:
        """When runs that did not pause at the deadline are given up: they hang, or their steps are very long."""
        deadline = self._keeping.deadline
        return None if deadline is None else deadline + GRACE

    def fits(self, job: Cell) -> bool:
        """Whether the job would end before the deadline."""
        deadline = self._keeping.deadline
        if deadline is None:
            return True
        slowness = self._slowness(job.runs[0].label)
        if slowness is None:
            return not self.is_over
        done = sum(self._first(job).values()) / (max(1, job.steps) * len(job.runs))
        return self._now() + TO_SPARE * slowness * job.seconds(len(job.runs)) * (1 - done) <= deadline

    def start(self, job: Cell) -> None:
        """The job begins now."""
        if self._keeping.deadline is None or not job.runs:
            return
        now = self._now()
        started = _Job(
            job.runs[0].label, job.seconds(len(job.runs)), job.steps, now, self._first(job), now=now
        )
        self._jobs.append(started)
        self._of_run |= {run.key: started for run in job.runs}

    def on(self, event: Event) -> None:
        """Hear how far its runs are."""
        job = self._of_run.get(event.run.key)
        if job is None:
            return
        job.now = self._now()
        match event:
            case RunStarted():
                job.first[event.run.key] = event.step
            case Stepped() | RunPaused():
                job.at[event.run.key] = event.step
            case Evaluated():
                job.at[event.run.key] = event.row.step
            case RunEnded():
                job.at[event.run.key] = job.steps

    def _first(self, job: Cell) -> dict[_Key, int]:
        """The steps that its runs go on from."""
        states = self._keeping.states if self._keeping.resume else None
        return {run.key: max(states.steps(run), default=0) if states else 0 for run in job.runs}

    def _slowness(self, label: str) -> float | None:
        """Measured over predicted seconds; None where nothing was measured yet."""
        for jobs in ([job for job in self._jobs if job.label == label], self._jobs):
            measured = [job.measured() for job in jobs]
            predicted = sum(expected for _, expected in measured)
            if predicted > 0:
                return sum(seconds for seconds, _ in measured) / predicted
        return None
