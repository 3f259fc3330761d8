"""Which runs of a study this process trains, and when: beside other processes on the folder, and within its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnbench.api.under_way import are, names_of
from bnbench.base.errors import ResultsError
from bnbench.base.files import free_name
from bnbench.base.stopping import stop_asked
from bnbench.base.time_limit import time_text
from bnbench.results import ResultsFolder
from bnbench.results.claims import Claims, Present, plan_word
from bnbench.study.events import Event, RunEnded, RunPaused
from bnbench.study.plan import RunSpec

if TYPE_CHECKING:
    from bnbench.base.running import OnLock
    from bnbench.engine.cell import Cell
    from bnbench.engine.time_left import TimeLeft

#: Why runs pause where nobody asked for it.
TIME_LIMIT = "time limit"
#: Seconds between two looks at what other processes do.
_LOOK_SECONDS = 0.2


def _silent(text: str) -> None:
    """Nobody listens."""


@dataclass
class Turns:
    """The turns of this process at the runs of one results folder.

    before: which version each run had when the study was prepared: a run that has another one since is done, by whom it
    may be. part: the runs of the asked shard; None for all. again: whether finished runs are trained again. say: gets
    sentences for the user. paused: at which step each paused run stopped. refused: runs that did not fit into the time.
    """

    claims: Claims
    folder: ResultsFolder
    runs: Sequence[RunSpec]
    time_left: TimeLeft
    on_lock: OnLock = "join"
    again: bool = False
    say: Callable[[str], None] = _silent
    part: Sequence[RunSpec] | None = None
    paused: dict[tuple[str, int], int] = field(default_factory=dict)
    refused: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.before = {run.key: self.folder.version_of(run) for run in self.runs}
        self._depth, self._reason, self._trained = 0, "", False
        self._ended: set[tuple[str, int]] = set()

    @contextmanager
    def present(self) -> Iterator[None]:
        """Inside, other processes see that this one is at the folder. May be entered inside itself."""
        with ExitStack() as stack:
            if not self._depth:
                stack.enter_context(self.claims.present(plan_word(self.runs)))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @property
    def gives_up(self) -> float | None:
        """The monotonic time at which runs that fail to pause are given up; None without a limit."""
        return self.time_left.gives_up

    def stop(self, reason: str) -> None:
        """The training ended early, for this reason."""
        self._reason = reason

    @property
    def stopped(self) -> str:
        """Why runs were left for the next command; "" where none was."""
        return self._reason

    def sentence(self, limit: float | None, *, at_most: bool = False) -> str:
        """What was left, and why; "" where nothing was. limit: of the time. at_most: fewer runs may do."""
        if not self._reason:
            return ""
        cause = f"Stopped by {self._reason}"
        if self._reason == TIME_LIMIT:
            cause = f"Time limit of {time_text(limit)}" if limit else "Time limit"
            if not self._trained:
                cause += ", which was over before a run began"
        runs = self.runs if self.part is None else self.part
        if self.again:
            done = sum(self._is_done(run) for run in runs)
        else:
            done = sum(self.folder.version_of(run) is not None for run in runs)
        kept = sum(step > 0 for step in self.paused.values())
        paused = f", {kept} {are(kept)} paused at a kept state" if kept else ""
        total = f"{'up to ' if at_most else ''}{len(runs)}"
        return f"{cause}: {done} of {total} runs {are(done)} done{paused}. {self._what_goes_on()}"

    def _what_goes_on(self) -> str:
        if self.again:
            return (
                "Those that were not trained again keep their earlier results; --force begins again with all."
            )
        if self._reason == TIME_LIMIT and not self._trained:
            return "Give it more time than it takes to get ready."
        return "The same command goes on."

    def check_plan(self) -> None:
        """Raises ResultsError where another process trains another selection of runs into the folder."""
        mine = plan_word(self.runs)
        for other in self.claims.others():
            if other.plan not in ("", mine):
                raise ResultsError(
                    f"{self.claims.results}: {other.owner} trains other seeds or variants of this study there.",
                    "Processes share a folder where they are asked for the same runs. Nothing was touched.",
                    f"wait until it has ended, or --output {free_name(self.claims.results)}",
                )

    def portions(self, runs: Sequence[RunSpec]) -> Iterator[tuple[RunSpec, ...]]:
        """What is left of these runs, again and again: other processes train some, and may give some back."""
        self._meet()
        left = self._left(runs)
        while left and not self._must_stop():
            yield left
            left = self._left(left)
            if left and not self._must_stop():
                self._wait_for_one(left)
                left = self._left(left)
        if not all(self._is_done(run) for run in runs):
            self._reason = stop_asked() or TIME_LIMIT

    def admit(self, job: Cell) -> tuple[RunSpec, ...]:
        """The runs of this job that are to be trained now: those that fit into the time and are nobody else's."""
        if stop_asked():
            return ()
        if not self.time_left.fits(job):
            self.refused |= {run.key for run in job.runs}
            return ()
        runs = self.claim(job.runs)
        self.time_left.start(job.part(runs))
        return runs

    def claim(self, runs: Sequence[RunSpec]) -> tuple[RunSpec, ...]:
        """Those of these runs that no other process trains or has ended."""
        taken = self.claims.take(runs)
        done = {run.key: run for run in taken if self._is_done(run)}  # its owner has left since
        self.claims.release(done.values())
        mine = tuple(run for run in taken if run.key not in done)
        self._trained |= bool(mine)
        return mine

    def hear(self, event: Event) -> None:
        """To be called with every event, once its run is on disk."""
        self.time_left.on(event)
        if isinstance(event, RunPaused):
            self.paused[event.run.key] = event.step
        elif isinstance(event, RunEnded):
            self.paused.pop(event.run.key, None)
            self._ended.add(event.run.key)
        if isinstance(event, RunPaused | RunEnded):
            self.claims.release([event.run])

    def _must_stop(self) -> bool:
        return bool(stop_asked()) or self.time_left.is_over

    def _left(self, runs: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
        """Those that nobody has ended, and that fit."""
        return tuple(run for run in runs if not self._is_done(run) and run.key not in self.refused)

    def _is_done(self, run: RunSpec) -> bool:
        return run.key in self._ended or self.folder.version_of(run) != self.before[run.key]

    def _meet(self) -> None:
        """Say who else is here; wait for them to leave where that was asked for."""
        others = self.claims.others()
        if not others:
            return
        if self.on_lock == "join":
            self.say(f"Here already: {names_of(others)}. This command trains the runs that are left.")
            return
        self.say(f"Waiting for {names_of(others)} (--on-lock wait).")
        while self.claims.others() and not self._must_stop():
            time.sleep(_LOOK_SECONDS)

    def _wait_for_one(self, runs: Sequence[RunSpec]) -> None:
        """Wait until one of these runs is free, or all are done; others train them."""
        said = None
        while not self._must_stop():
            left = self._left(runs)
            held = self.claims.of_others(left)
            if len(held) < len(left) or not left:
                return
            owners = {other.owner.word: other for other in held.values()}
            if said != owners.keys():
                said = owners.keys()
                self.say(
                    f"Waiting for {names_of(owners.values())}, which {_trains(owners.values(), len(held))}."
                )
            time.sleep(_LOOK_SECONDS)


def _trains(others: Iterable[Present], count: int) -> str:
    verb = "train" if len(list(others)) > 1 else "trains"
    return f"{verb} {count} run{'s' * (count != 1)}"
