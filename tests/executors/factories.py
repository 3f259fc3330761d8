"""Executors for tests: processes that are forked from the test, with faults on the way to a worker or in it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnbench.executors.job import Job, JobResult, Paused

#: A folder for marks of what has happened, for all processes.
MARKS = "BNBENCH_TEST_MARKS"


class Changed(ProcessPoolExecutor):
    """A pool whose jobs are changed before they leave, or done by another function."""

    def __init__(self, change: Callable[[Job], Job] = lambda job: job, function: Any = None) -> None:
        super().__init__(2, mp_context=multiprocessing.get_context("fork"))
        self._change, self._function = change, function

    def submit(self, function: Any, payload: bytes) -> Any:  # type: ignore[override]
        job = self._change(Job.from_bytes(payload))
        return super().submit(self._function or function, job.to_bytes())


def forked() -> Executor:
    return Changed()


def unshared() -> Executor:
    """No worker finds the results folder."""

    def elsewhere(job: Job) -> Job:
        driver = {**job.options["driver"], "file": "/nowhere/.driver"}
        return job.with_options(driver=driver)

    return Changed(elsewhere)


def moved() -> Executor:
    """No worker finds the user's files where they were."""

    def without(job: Job) -> Job:
        luggage = job.options["luggage"]
        moved = {folder: f"/nowhere{folder}" for folder in luggage["folders"]}
        words = [[_prefixed(word, moved) for word in words] for words in luggage["sources"]]
        return job.with_options(luggage={**luggage, "folders": list(moved.values()), "sources": words})

    return Changed(without)


def _prefixed(word: str, moved: dict[str, str]) -> str:
    return next((new + word[len(old) :] for old, new in moved.items() if word.startswith(old)), word)


def another_version() -> Executor:
    return Changed(lambda job: replace(job, versions={**job.versions, "torch": "1.0"}))


def other_data() -> Executor:
    def other(job: Job) -> Job:
        cells = {
            label: {**cell, "provenance": {**cell["provenance"], "data": "other"}}
            for label, cell in job.cells.items()
        }
        return replace(job, cells=cells)

    return Changed(other)


def twice() -> Executor:
    """Every job is done twice."""
    return Changed(function=_twice)


def killed_once() -> Executor:
    """The first job ends its worker, before its runs have been trained."""
    return Changed(function=_killed_once)


def killed_late() -> Executor:
    """The first job ends its worker, after its runs have been trained."""
    return Changed(function=_killed_late)


def never_batch() -> Executor:
    """Whoever takes a run of `batch` dies."""
    return Changed(function=_never_batch)


def preempted_once() -> Executor:
    """The first job is asked to stop while it trains, as a queue does."""
    return Changed(function=_preempted_once)


def raises() -> Executor:
    raise ValueError("no such partition")


def nothing() -> int:
    return 3


def needs(partition: str) -> str:
    return partition


def _is_first(name: str) -> bool:
    try:
        (Path(os.environ[MARKS]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _twice(payload: bytes) -> bytes:
    from bnbench.api.worker import do_job

    first, second = (JobResult.from_bytes(do_job(payload)) for _ in range(2))
    assert first.done == second.done
    return second.to_bytes()


def _killed_once(payload: bytes) -> bytes:
    from bnbench.api.worker import do_job

    if _is_first("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return do_job(payload)


def _killed_late(payload: bytes) -> bytes:
    from bnbench.api.worker import do_job

    result = do_job(payload)
    if _is_first("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def _never_batch(payload: bytes) -> bytes:
    from bnbench.api.worker import do_job

    if any(run.label == "batch" for run in Job.from_bytes(payload).runs):
        os.kill(os.getpid(), signal.SIGKILL)
    return do_job(payload)


def _preempted_once(payload: bytes) -> bytes:
    from bnbench.api.worker import do_job

    if _is_first("preempted"):
        job = Job.from_bytes(payload)
        paused = tuple(Paused(run, 0, "SIGTERM") for run in job.runs)
        return JobResult(job.key, paused=paused).to_bytes()
    return do_job(payload)
