"""Training a study's runs by an executor: runs become jobs, and what comes back becomes events."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from bnbench.api.job_making import Setup, id_of, make_jobs
from bnbench.api.worker import do_job
from bnbench.base.errors import BnbenchError, ResultsError
from bnbench.base.stopping import stop_asked
from bnbench.engine.cell import Cell
from bnbench.engine.execute import crashed
from bnbench.executors.drive import Done, Driver, Driving, Handed, Lost, Retried
from bnbench.executors.driver import DriverMark
from bnbench.executors.job import Job, JobResult, RunId
from bnbench.executors.words import open_executor
from bnbench.results.run_reader import run_place
from bnbench.results.states import FolderStates
from bnbench.study.events import Evaluated, Event, RunEnded, RunPaused, RunStarted
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord

#: Seconds in which a result that a worker has written must be seen here: some network file systems are slow to tell.
SEEN_WITHIN = 60.0
#: Why runs pause at the end of the time limit.
TIME_LIMIT = "time limit"


#: Asked before a job starts: the runs of it that are to be trained now.
Admit = Callable[[Cell], tuple[RunSpec, ...]]


class Elsewhere:
    """Trains the runs of a study by an executor, which is opened when it is needed.

    admit: asked before a job leaves; the runs of it that are to be trained now.
    """

    def __init__(self, setup: Setup, admit: Admit) -> None:
        self.setup, self._admit = setup, admit
        self._mark = DriverMark.of_this_process(setup.folder.path)
        self._written_reason = ""
        self._notes: dict[RunId, str] = {}
        driving = Driving(do_job, self._encoded, self._left, self._admitted, self._reason_to_stop)
        driving = replace(driving, retries=setup.running.retries)
        opening = partial(open_executor, setup.running.executor, setup.workers)
        self._driver = Driver(opening, driving)
        self._open: dict[RunId, RunSpec] = {}
        self._before: dict[RunId, tuple[int, int] | None] = {}

    def start(self) -> None:
        """Have workers now, not with the first job. Raises ExecutorError."""
        _ = self._driver.executors

    def close(self) -> None:
        """End what was started."""
        self._driver.close(cancel=False)

    def train(self, runs: Sequence[RunSpec]) -> Generator[Event]:
        """Train these runs. Whatever ends it early, what was started for them ends, too.

        Raises ExecutorError where there are no workers, or where one refuses a job.
        """
        if not runs:
            return
        self._open = {id_of(run): run for run in runs}
        self._before = {key: self.setup.folder.version_of(run) for key, run in self._open.items()}
        self._mark = replace(self._mark, owned=self._driver.executors.owned)
        self._mark.write()
        whole, whole_so_far = False, True  # whether every worker ended as it should
        try:
            jobs = make_jobs(self.setup, runs, self._driver, self._mark)
            with closing(self._driver.drive(jobs)) as steps:
                for step in steps:
                    match step:
                        case Handed(job):
                            yield from self._started(job)
                        case Done(job, result):
                            yield from self._done(job, result)
                        case Retried(job, reason):
                            whole_so_far = False
                            yield from self._found(job.runs)
                            note = f"a worker was lost ({reason}): its runs are tried again"
                            self._notes |= dict.fromkeys(self._left(job), note)
                        case Lost(job, reason):
                            yield from self._lost(job, reason)
            whole = whole_so_far
        finally:
            self._mark.remove()
            if not whole:  # what a killed worker was writing
                self.setup.folder.recover()

    def _reason_to_stop(self) -> str:
        limit = self.setup.deadline
        late = limit is not None and time.monotonic() >= limit
        reason = stop_asked() or (TIME_LIMIT if late else "")
        if reason and reason != self._written_reason:
            self._written_reason = reason
            with suppress(ResultsError):  # a full disk: workers on this machine know the time by themselves
                self._mark.write(reason)
        elif not reason:
            self._mark.renew()
        return reason

    def _encoded(self, job: Job) -> bytes:
        limit = self.setup.deadline
        if limit is None:
            return job.to_bytes()
        left = max(0.0, limit - time.monotonic())
        boot = self._mark.process.boot
        until = {"boot": boot, "monotonic": limit, "left": left, "wall": time.time() + left}
        return job.with_options(until=until).to_bytes()

    def _admitted(self, job: Job) -> list[RunId]:
        """The runs that are to be trained now: they fit into the time, and no other process is at them."""
        admitted: list[RunId] = []
        by_label: dict[str, list[RunSpec]] = {}
        for key in self._left(job):
            by_label.setdefault(key.label, []).append(self._open[key])
        for label, runs in by_label.items():
            admitted += map(id_of, self._admit(self.setup.cells[label].part(tuple(runs))))
        return admitted

    def _left(self, job: Job) -> list[RunId]:
        return [run for run in job.runs if run in self._open]

    def _started(self, job: Job) -> Iterator[Event]:
        for key in self._left(job):
            run = self._open[key]
            steps = self.setup.cells[key.label].steps
            notes = tuple(filter(None, [self._notes.get(key)]))
            yield RunStarted(run, steps, float(run.settings.epochs or 0), notes)

    def _done(self, job: Job, result: JobResult) -> Iterator[Event]:
        for key in job.runs:
            if key in self._open and (files := _files_of(self._open[key], result)):
                self.setup.folder.save_files(self._open[key], files)
        on_disk = [key for key in job.runs if key in self._open and key in result.done]
        self._wait_for(on_disk)
        yield from self._found(job.runs)
        if self._reason_to_stop():
            for paused in result.paused:
                if run := self._open.pop(paused.run, None):
                    yield RunPaused(run, paused.step, paused.reason)

    def _wait_for(self, runs: Sequence[RunId]) -> None:
        end = time.monotonic() + SEEN_WITHIN
        while time.monotonic() < end and any(self._new_record(key) is None for key in runs):
            time.sleep(0.2)

    def _found(self, runs: Iterable[RunId]) -> Iterator[Event]:
        """The ends of those that lie in the folder by now."""
        for key in runs:
            if key in self._open and (record := self._new_record(key)) is not None:
                run = self._open.pop(key)
                if record.outcome != "crashed":
                    FolderStates.of(self.setup.folder.path).drop(run)
                yield from (Evaluated(run, row) for row in record.history)
                yield RunEnded(run, record, kept=True)

    def _new_record(self, key: RunId) -> RunRecord | None:
        """The record of a run that was written since the jobs were handed out."""
        run, folder = self._open[key], self.setup.folder
        return folder.record(run) if folder.version_of(run) != self._before[key] else None

    def _lost(self, job: Job, reason: str) -> Iterator[Event]:
        killed = any(word in reason for word in ("SIGKILL", "signal 9", "abruptly", "KilledWorker"))
        why = "The system kills processes when memory runs out." if killed else ""
        error = BnbenchError(f"{reason}", why, "fewer --jobs, a smaller study, or workers with more memory.")
        for key in self._left(job):
            run = self._open.pop(key)
            yield RunEnded(run, crashed(run, error, self.setup.device))


def train_elsewhere(
    setup: Setup, admit: Admit
) -> tuple[Callable[[Sequence[RunSpec]], Generator[Event]], Callable[[], None], Callable[[], None]]:
    """What trains by an executor, what starts that, and what ends it."""
    elsewhere = Elsewhere(setup, admit)
    return elsewhere.train, elsewhere.start, elsewhere.close


def _files_of(run: RunSpec, result: JobResult) -> dict[str, bytes]:
    """The files of a run among those of a result, by their names; run.json is the last."""
    place = run_place(run.variant, run.cell, run.seed) + "/"
    files = {name[len(place) :]: text for name, text in result.files.items() if name.startswith(place)}
    if any("/" in name or "\\" in name or name.startswith(".") for name in files):
        raise ResultsError(f"{place}: a worker sent a file that lies outside its run.")
    return files
