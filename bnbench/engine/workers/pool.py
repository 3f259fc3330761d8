"""Worker processes of one thread each, which train jobs and send back their events.

They are forked from a server process that has made imports and nothing else: to fork this process, with
the threads of its progress display and of torch in it, is not safe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import torch

from bnbench.base.errors import BnbenchError
from bnbench.base.machine import killed_for_memory, why_killed
from bnbench.base.stopping import ask_to_stop, stop_asked
from bnbench.base.user_code import guarded
from bnbench.data.prepared import Prepared
from bnbench.engine.cell import Cell
from bnbench.engine.execute import Trainer, crashed
from bnbench.engine.process import training_process
from bnbench.engine.state.keeping import NOTHING_KEPT, Keeping
from bnbench.engine.workers.room import Room
from bnbench.engine.workers.server import start_server
from bnbench.engine.workers.shared import SharedData, SharedLibrary
from bnbench.study.events import Event, RunEnded, RunPaused
from bnbench.study.plan import RunSpec

#: Seconds after which the parent looks whether it was asked to stop.
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class WorkerLife:
    """What every worker is started with. prepare: called in it first. keeping: of the states of its runs."""

    device: torch.device
    prepare: Callable[[], object] | None = None
    keeping: Keeping = NOTHING_KEPT


def run_in_workers(
    jobs: Sequence[Cell],
    data: Mapping[str, Prepared],
    workers: int,
    life: WorkerLife,
    room: Room | None = None,
) -> Generator[Event]:
    """Train the jobs, in their order as workers get free. A worker that dies takes its runs along, and no others.

    data: what the jobs need, by `data_key`. room: which jobs fit beside others; None for all. Where this process is
    asked to stop, the workers are, too. However this ends, no worker outlives it.
    """
    start_server()
    shared, waiting, room = SharedData(data), list(jobs), room or Room()
    busy: dict[Any, _Worker] = {}
    try:
        while True:
            while len(busy) < workers and (given := room.admitted(waiting, _held(busy))):
                worker = _started(shared, life)
                busy[worker.connection] = worker
                worker.give(*given)
            if not busy:
                return
            for ready in connection.wait(list(busy), LOOK_SECONDS):
                worker = busy[ready]
                yield from worker.events(life.device)
                if not worker.is_idle:
                    continue
                if worker.alive and (given := room.admitted(waiting, _held(busy, worker), worker.holds)):
                    worker.give(*given)
                else:
                    busy.pop(ready).stop()
            if stop_asked():
                for worker in busy.values():
                    worker.ask_to_stop()
    finally:
        for worker in busy.values():
            worker.stop()
        shared.close()


def _held(busy: Mapping[Any, _Worker], but: _Worker | None = None) -> list[int]:
    """Bytes that each of the others holds."""
    return [worker.holds for worker in busy.values() if worker is not but]


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Inside, this program has no main module: a worker that starts would run the user's script or notebook again.

    Nothing that workers get is defined there: their plugins they load from files.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _started(shared: SharedData, life: WorkerLife) -> _Worker:
    """Raises BnbenchError where the process that they are forked from is gone."""
    try:
        return _Worker(shared, life)
    except (EOFError, OSError) as error:
        raise BnbenchError(
            f"no worker process can be started: {type(error).__name__}: {error}".rstrip(": ") + ".",
            "The process that workers are forked from ended early; its output is above.",
            "--jobs 1 trains in this process; or see whether memory or the number of processes is limited.",
        ) from None


class _Worker:
    """One process and the job that it is at."""

    def __init__(self, shared: SharedData, life: WorkerLife) -> None:
        self.holds, self._killed_before = 0, killed_for_memory()
        context = get_context("forkserver")
        self.connection, remote = context.Pipe()
        self.process = context.Process(target=_serve, args=(remote, shared, life), daemon=True)
        with _without_main():
            self.process.start()
        remote.close()
        self.alive, self.asked_to_stop = True, False
        self.left: dict[tuple[str, int], RunSpec] | None = None

    def give(self, job: Cell, need: int = 0) -> None:
        """The next job, which needs so many bytes. That a dead worker does not take it shows at its next event."""
        self.holds = max(self.holds, need)  # what it frees stays with it
        self.left = {run.key: run for run in job.runs}
        with contextlib.suppress(OSError):
            self.connection.send(job)

    @property
    def is_idle(self) -> bool:
        """Whether it has no job."""
        return self.left is None

    def events(self, device: torch.device) -> Iterator[Event]:
        """Its next event; none where the job is done, and the ends of all its runs where the process has died."""
        assert self.left is not None
        try:
            event: Event | None = self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            yield from [RunEnded(run, crashed(run, self._death(), device)) for run in self.left.values()]
            event = None
        if event is None:
            self.left = None
            return
        if isinstance(event, RunEnded | RunPaused):
            del self.left[event.run.key]
        if isinstance(event, RunPaused) and stop_asked():
            event = replace(event, reason=stop_asked())  # the worker knows its parent's signal alone
        yield event

    def ask_to_stop(self) -> None:
        """Let its runs save their states and pause."""
        if self.asked_to_stop or self.process.pid is None:
            return
        self.asked_to_stop = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)

    def _death(self) -> BnbenchError:
        code = self.process.exitcode
        if code is not None and code < 0:
            ending, fix = why_killed(-code, self._killed_before, self.holds or None)
        else:
            ending, fix = f"ended with exit code {code}", "fewer --jobs, or a smaller study."
        return BnbenchError(f"the worker process that trained it {ending}.", fix=fix)

    def stop(self) -> None:
        """At once: it has nothing to put in order."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(parent: Connection, library: SharedLibrary, life: WorkerLife) -> None:
    """A worker's life: job after job, until the parent goes."""
    _hear_the_parent()
    with guarded(), training_process(for_good=True):  # stdout is the parent's
        failure = _failure_of(life.prepare)
        trainer = Trainer(library, life.device, keeping=life.keeping)
        with contextlib.suppress(EOFError, OSError):
            while True:
                job: Cell = parent.recv()
                for event in (
                    _failed(job, failure, life.device) if failure else trainer.train(job.runs, job.choice)
                ):
                    parent.send(event)
                parent.send(None)


def _hear_the_parent() -> None:
    """SIGTERM is the parent's word to pause; other signals go to a whole terminal or job, and so to the parent."""
    signal.signal(signal.SIGTERM, lambda number, frame: ask_to_stop("SIGTERM"))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1))


def _failure_of(prepare: Callable[[], object] | None) -> BaseException | None:
    """What it raised, if it did: every run of this worker ends with it."""
    try:
        if prepare:
            prepare()
    except BaseException as error:
        return error
    return None


def _failed(job: Cell, failure: BaseException, device: torch.device) -> Iterator[Event]:
    return (RunEnded(run, crashed(run, failure, device)) for run in job.runs)
