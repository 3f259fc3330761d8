"""A study that is ready to run: planned, rehearsed, its folder chosen; then its runs, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bnbench.analysis.stops import follow
from bnbench.api.turns import Turns
from bnbench.base.running import Running
from bnbench.base.stopwatch import Phases
from bnbench.base.time_limit import command_began, left_for_the_report
from bnbench.results import ResultsFolder
from bnbench.results.beside import FinishedRun
from bnbench.results.states import FolderStates
from bnbench.study import Study
from bnbench.study.events import Event
from bnbench.study.plan import RunSpec


def nothing() -> None:
    """There is nothing to close."""


#: Trains these runs, event by event.
Trains = Callable[[Sequence[RunSpec]], Generator[Event]]


@dataclass(frozen=True)
class Work:
    """A study that is ready to run: its runs, those still to do, and the folder they go to.

    part: the runs of the asked shard, or all of them. beside: finished runs of other folders, which are copied when
    the folder is opened. states: of its runs; half_done: those that go on from theirs, where they have any. turns: of
    this process, beside others on the folder. start: starts what trains them; close: ends it. scanned: the fingerprint
    of the folder's runs before they were looked at (see `results/unchanged.py`).
    """

    study: Study
    runs: tuple[RunSpec, ...]
    todo: tuple[RunSpec, ...]
    folder: ResultsFolder
    events: Trains
    phases: Phases
    today: Callable[[RunSpec], Mapping[str, Any]]
    states: FolderStates
    turns: Turns
    beside: tuple[FinishedRun, ...] = ()
    half_done: tuple[RunSpec, ...] = ()
    part: tuple[RunSpec, ...] = ()
    start: Callable[[], None] = nothing
    close: Callable[[], None] = nothing
    time_limit: float | None = None
    scanned: str = ""

    @property
    def left_over(self) -> str:
        """A sentence about the runs that the time or a signal left for the next command; "" where there are none."""
        return self.turns.sentence(self.time_limit, at_most=bool(self.study.looks))

    def check(self) -> None:
        """Raises ResultsError where the folder is someone else's, or answers another question. Touches nothing."""
        self.folder.check_for(self.study, self.runs)

    def rounds(self) -> Iterator[tuple[RunSpec, ...]]:
        """The runs to train, in turn: all runs, or with `seeds: auto` the runs that the next look needs.

        The next round is asked for when the one before is on disk: what it holds follows from the runs that are there.
        """
        try:
            yield from self._rounds()
        finally:
            self.close()

    def _rounds(self) -> Iterator[tuple[RunSpec, ...]]:
        if not self.study.looks:
            yield self.todo
            return
        pending = {run.key: run for run in self.todo}
        while round_ := self._next_look(pending):
            yield round_
            for run in round_:  # whatever became of it: a run that crashed is tried again by the next command
                del pending[run.key]

    def _next_look(self, pending: Mapping[tuple[str, int], RunSpec]) -> tuple[RunSpec, ...]:
        """Runs of the first look that is not complete. What is still to be trained counts as not there."""
        results = self.folder.load()
        cells = (
            replace(cell, records=tuple(r for r in cell.records if r.key not in pending))
            for cell in results.cells
        )
        wanted = follow(replace(results, cells=tuple(cells))).wanted
        place = {seed: index for index, seed in enumerate(self.study.seeds)}
        return tuple(run for run in pending.values() if place[run.seed] < wanted.get(run.label, 0))

    def open(self) -> Work:
        """Make the results folder, write its plan, and copy the finished runs of other folders.

        A run that has left its folder by then is to be trained. Raises ResultsError.
        """
        self.turns.check_plan()
        copied = self.folder.open_for(self.study, self.runs, self.beside)
        held = self.turns.claims.of_others(self.runs)
        self.states.drop_others([*self.half_done, *(run for run in self.runs if run.key in held)])
        lost = {finished.run.key for finished in self.beside} - {finished.run.key for finished in copied}
        todo = {run.key for run in self.todo} | lost
        return replace(self, todo=tuple(run for run in self.runs if run.key in todo), beside=copied)

    @contextmanager
    def present(self) -> Iterator[None]:
        """Inside, other processes see that this one trains; what killed ones left behind is removed first."""
        if not self.todo:
            self.turns.claims.sweep()
            yield
            return
        with self.turns.present():
            yield

    def has_records(self) -> bool:
        """Whether any run has a result."""
        return any(self.folder.has(run) for run in self.runs)


@dataclass(frozen=True)
class Options:
    """Options for preparing studies. again: the finished runs to train again.

    jobs: worker processes; None for what suits the device. beside: whether finished runs of the folders beside
    the study's own count, too. running: where and for how long. started: when the command did, by the monotonic clock.
    measured: what its runs took so far, for the studies that follow.
    """

    device: str
    data_dir: Path
    again: Literal["none", "changed", "all"] = "none"
    debug: bool = False
    jobs: int | None = None
    beside: bool = False
    running: Running = field(default_factory=Running)
    started: float = field(default_factory=command_began)
    measured: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def deadline(self) -> float | None:
        """When the training has to end, by the monotonic clock; None where it has all the time."""
        limit = self.running.time_limit
        return None if limit is None else self.started + limit - left_for_the_report(limit)
