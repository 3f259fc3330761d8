"""When a training keeps its states, and when it pauses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from bnbench.base import stopping
from bnbench.base.errors import ResultsError
from bnbench.base.running import SAVE_EVERY
from bnbench.engine.replica import Replica
from bnbench.engine.state.content import Content, size_of
from bnbench.engine.state.keeping import Keeping
from bnbench.engine.state.run_state import InTraining, RunStates, reason_of
from bnbench.study.events import RunPaused

#: With the usual interval, states take this share of the time of a training at most.
SHARE = 0.01
#: Seconds of a save from which on intervals are longer, in proportion.
LONG_SAVE = SHARE * SAVE_EVERY
#: Bytes a second that a disk takes, and seconds of a file: for the first state, whose cost nobody has measured.
BYTES_A_SECOND, SECONDS_A_FILE = 200e6, 5e-3


def pause_reason(keeping: Keeping) -> str:
    """Why runs pause now; "" where they go on."""
    if reason := stopping.stop_asked():
        return reason
    return "time limit" if keeping.deadline is not None and time.monotonic() >= keeping.deadline else ""


class Saving:
    """The states of a training that is under way.

    Made before its first step. A state is kept `keeping.every` seconds after the last one. Where a save takes longer
    than `LONG_SAVE` the interval grows in proportion, so that the usual one costs a hundredth of the time at most.
    """

    def __init__(self, training: InTraining, keeping: Keeping) -> None:
        self.training, self.keeping = training, keeping
        began = time.monotonic()
        self.states = RunStates(training) if keeping.states is not None else None
        self._cost: float | None = None
        self._kept = dict.fromkeys((run.key for run in training.runs), 0)
        self._failed = ""
        self.unused: Mapping[tuple[str, int], str] = {}
        self._spent = time.monotonic() - began
        self._due = began + self.keeping.every

    def went_on(self, step: int) -> None:
        """From the states of this step."""
        self._kept = dict.fromkeys(self._kept, step)

    def is_due(self) -> bool:
        """Looked at once a step."""
        return self.states is not None and time.monotonic() >= self._due

    def save(self, active: Sequence[Replica], step: int) -> None:
        """Keep the states of these runs; later, where that would take too long now."""
        began = time.monotonic()
        taken = self._taken(active, step)
        if self._cost is None:
            size = sum(size_of(content.tensors) for _, content in taken)
            # twice: described and written
            expected = 2 * size / BYTES_A_SECOND + SECONDS_A_FILE * len(taken)
            if (wait := self._interval(expected) - self.keeping.every) > 0:
                self._cost, self._due = expected, began + wait
                return
        self._keep(taken, step)
        now = time.monotonic()
        self._cost = now - began
        self._due = now + self._interval(self._cost)

    def _interval(self, cost: float) -> float:
        """Seconds between two states, where one takes so many."""
        return self.keeping.every * max(1.0, cost / LONG_SAVE)

    def _taken(self, active: Sequence[Replica], step: int) -> list[tuple[Replica, Content]]:
        assert self.states is not None
        taken = []
        for replica in active:
            index = self.training.replicas.index(replica)
            try:
                taken.append((replica, self.states.taken(index, step)))
            except Exception as error:  # whatever a user's objects raise where they are looked at
                self.states.why_not[index] = reason_of(error)
        return taken

    def _keep(self, taken: Sequence[tuple[Replica, Content]], step: int) -> None:
        assert self.keeping.states is not None
        for replica, content in taken:
            try:
                self.keeping.states.keep(replica.run, step, content.to_bytes())
                self._kept[replica.run.key] = step
            except ResultsError as error:  # the run goes on: perhaps there is room again when it ends
                self._failed = " ".join(str(error).splitlines())

    def paused(self, active: Sequence[Replica], step: int, reason: str) -> Iterator[RunPaused]:
        """Keep what is not kept yet, and say where each run goes on."""
        if self.states is not None:
            behind = [replica for replica in active if self._kept[replica.run.key] != step]
            self._keep(self._taken(behind, step), step)
        for replica in active:
            yield RunPaused(replica.run, self._kept[replica.run.key], reason)

    def notes(self, replica: Replica) -> tuple[str, ...]:
        """Why no state of a run was kept, where one was due; why one that was there was not used."""
        found = [self.unused.get(replica.run.key, ""), self._failed]
        why = self.states.why_not[self.training.replicas.index(replica)] if self.states is not None else ""
        if why and self._cost is not None:
            found.append(f"no state of this run is kept, so after a kill it begins again: {why}")
        return tuple(filter(None, found))
