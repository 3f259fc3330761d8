"""Jobs in, results out: so many in flight as there are workers, and those whose worker was lost once more."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import NamedTuple

from bnbench.base.running import RETRIES
from bnbench.base.user_code import first_line
from bnbench.executors.base import ExecutorError, Executors, Function
from bnbench.executors.job import Job, JobResult, RunId

#: Seconds between two looks at the clock and at the wish to stop.
TICK = 0.5
#: Seconds in which workers save their states and pause, once the driver wants to stop.
GRACE = 60.0
#: So often in a row an executor is opened again that takes no job.
_OPENINGS = 3


class Handed(NamedTuple):
    """A worker has the job."""

    job: Job


class Done(NamedTuple):
    """A job came back. result.paused is done later, where there is time for it."""

    job: Job
    result: JobResult


class Retried(NamedTuple):
    """A worker was lost: what the job has not done yet is done again, or given up next."""

    job: Job
    reason: str


class Lost(NamedTuple):
    """A job is given up: its workers were lost."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Driving:
    """How jobs are driven.

    function: what a worker calls. encode: the bytes of a job at the moment when it leaves. left: those runs of a job
    that are not done yet, asked for after `Done` and `Retried`. admit: those that are to be done
    now, asked for when there is room for the job. stop: the reason to stop, "" where there is none: no
    further job leaves, and those under way have so many seconds of grace.
    """

    function: Function
    encode: Callable[[Job], bytes] = Job.to_bytes
    left: Callable[[Job], Sequence[RunId]] = lambda job: job.runs
    admit: Callable[[Job], Sequence[RunId]] = lambda job: job.runs
    stop: Callable[[], str] = lambda: ""
    retries: int = RETRIES
    grace: float = GRACE


@dataclass
class _Task:
    """A job under way. tries: how often its worker was lost. alone: nothing else is in flight beside it."""

    job: Job
    tries: int = 0
    alone: bool = False
    future: Future[bytes] | None = field(default=None, repr=False)
    opening: int = 0
    together: bool = False


Event = Handed | Done | Retried | Lost
Inbox = SimpleQueue[_Task]


class Driver:
    """Drives jobs. open_: opens the executor, and again where it broke. inbox: where tasks land that are over."""

    def __init__(self, open_: Callable[[], Executors], driving: Driving, inbox: Inbox | None = None) -> None:
        self._open, self._driving = open_, driving
        self._inbox: Inbox = SimpleQueue() if inbox is None else inbox
        self._executors: Executors | None = None
        self._waiting: deque[_Task] = deque()
        self._flying: dict[int, _Task] = {}
        self._taken = 0
        self._opening = 0
        self._alone: _Task | None = None

    @property
    def executors(self) -> Executors:
        """The workers; opened when they are first asked for. Raises ExecutorError."""
        if self._executors is None:
            self._executors = self._open()
            self._opening += 1
        return self._executors

    def close(self, cancel: bool) -> None:
        """End what was started. May be called twice."""
        if self._executors is not None:
            self._executors.close(cancel)
            self._executors = None

    def drive(self, jobs: Sequence[Job]) -> Generator[Event]:
        """What becomes of the jobs. Whatever ends it early, no job is left under way.

        Raises ExecutorError where a worker refuses a job, or where no worker can be had.
        """
        self._waiting.extend(_Task(job) for job in jobs)
        over = False
        try:
            while (self._waiting or self._flying) and not self._driving.stop():
                yield from self._hand_out()
                if (task := self._next(TICK)) is not None:
                    yield from self._landed(task)
            yield from self._wind_up()
            over = not self._flying
        finally:
            self._waiting.clear()
            if not over:
                self._flying.clear()
                self.close(cancel=True)

    def _wind_up(self) -> Generator[Event]:
        """The results of those under way, once there is a reason to stop."""
        self._waiting.clear()
        end = time.monotonic() + self._driving.grace
        while self._flying and (left := end - time.monotonic()) > 0:
            if (task := self._next(min(TICK, left))) is not None:
                yield from self._landed(task)
                self._waiting.clear()

    def _next(self, seconds: float) -> _Task | None:
        if not self._flying:
            return None
        try:
            task = self._inbox.get(timeout=seconds)
        except Empty:
            return None
        if self._flying.pop(id(task), None) is None:  # of an earlier round
            return None
        self._taken -= task.job.slots
        if self._alone is task:
            self._alone = None
        return task

    def _hand_out(self) -> Generator[Handed]:
        while self._waiting:
            task, workers = self._waiting[0], self.executors.workers
            room = workers + int(workers * self.executors.patience) - self._taken
            if self._flying and (self._alone or task.alone or task.job.slots > room):
                return
            self._waiting.popleft()
            if runs := self._driving.admit(task.job):
                task.job = task.job.part(runs)
                self._submit(task)
                yield Handed(task.job)

    def _submit(self, task: _Task) -> None:
        payload = self._driving.encode(task.job)
        for last in range(_OPENINGS):
            try:
                future = self.executors.submit(self._driving.function, payload, task.job.place)
                break
            except BrokenExecutor as error:
                if last == _OPENINGS - 1:
                    raise ExecutorError(f"the executor takes no jobs: {first_line(error)}.") from error
                self.close(cancel=True)
        task.future, task.opening = future, self._opening
        self._flying[id(task)] = task
        self._taken += task.job.slots
        self._alone = task if task.alone else None
        if len(self._flying) == 2:
            for other in self._flying.values():
                other.together = True
        task.together = len(self._flying) > 1
        future.add_done_callback(lambda _: self._inbox.put(task))

    def _landed(self, task: _Task) -> Generator[Event]:
        assert task.future is not None
        try:
            content = task.future.result()
        except (CancelledError, Exception) as error:
            yield from self._failed(task, error)
            return
        result = _result_of(content)
        if result.refused:
            raise ExecutorError(result.refused)
        yield Done(task.job, result)
        paused = [one.run for one in result.paused]
        missing = [run for run in self._driving.left(task.job) if run not in paused]
        if paused:  # its worker was wanted elsewhere: nothing is held against the job
            self._waiting.append(_Task(task.job.part(paused), task.tries))
        if missing:
            yield from self._again(_Task(task.job.part(missing), task.tries), "its results did not arrive")

    def _failed(self, task: _Task, error: BaseException) -> Generator[Event]:
        if isinstance(error, ExecutorError):
            raise error
        _check_import(error)
        if isinstance(error, ExecutorError):  # it can't take this job, nor any other
            raise error
        executors = self.executors
        if executors.preempted(error):
            self._waiting.append(_Task(task.job, task.tries))
            return
        if executors.broken(error) and task.opening == self._opening:
            self.close(cancel=True)
        yield from self._again(task, _reason_of(error), shared=executors.shared_fate and task.together)

    def _again(self, task: _Task, reason: str, shared: bool = False) -> Generator[Event]:
        """Another try; where those are used up, a last one alone, and for each run by itself.

        shared: other jobs were lost together with it, so that it is not known which of them is to blame.
        """
        yield Retried(task.job, reason)
        runs = list(self._driving.left(task.job))
        if not runs:
            return
        job, tries = task.job.part(runs), task.tries + 1
        if tries <= self._driving.retries:
            self._waiting.append(_Task(job, tries))
        elif shared or len(runs) > 1:
            self._waiting.extend(_Task(job.part([run]), tries, alone=shared) for run in runs)
        else:
            count = f" It was tried {tries} times." if tries > 1 else ""
            yield Lost(job, f"the worker that trained it was lost: {reason}.{count}")


def _result_of(content: object) -> JobResult:
    try:
        return JobResult.from_bytes(content)  # type: ignore[arg-type]
    except ValueError as error:
        raise ExecutorError(
            f"a worker's answer can't be read: {error}.", fix="the same version of bnbench everywhere."
        ) from None


def _reason_of(error: BaseException) -> str:
    return first_line(error).rstrip(".")


def _check_import(error: BaseException) -> None:
    """Raises ExecutorError where a worker has no bnbench that could take a job."""
    missing = isinstance(error, ImportError | AttributeError) and "bnbench" in str(error)
    if missing:
        raise ExecutorError(
            f"a worker can't load bnbench: {first_line(error)}.",
            "Every worker needs the same bnbench and torch as this machine.",
            "install it where the workers run, or let them find it: export PYTHONPATH=...",
        ) from None
