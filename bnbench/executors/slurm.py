"""`slurm:FILE.yaml`: jobs go to SLURM by submitit, as arrays; payloads and results are files that all nodes see."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path

from bnbench.base.files import read_text, to_json, write_whole
from bnbench.base.owner import owner_of, this_process
from bnbench.executors.base import ExecutorError, Executors, Function
from bnbench.executors.slurm_file import SlurmFile, read_slurm_file
from bnbench.executors.slurm_queue import Call, Queue, check_slurm, open_queue
from bnbench.executors.slurm_worker import BEGUN, EARLY, GOOD, PAYLOAD, RESULT
from bnbench.executors.words import Word

#: Without `folder`: beside the file.
FOLDER = "slurm-jobs"
#: Seconds without a further job, after which those that wait are submitted as one array.
_QUIET = 0.3
#: Seconds between two looks at the folder.
_LOOK = 0.2
#: Looks of SLURM at a job that has ended, before its result counts as lost: a shared folder shows files late.
_LOOKS = 2
#: Seconds after which SLURM kills a job that it has asked to end, and some more.
_KILL_WAIT = 40.0
#: Bytes of a log's end that a message shows.
_TAIL = 2000
_DRIVER, _SUBMITTED, _LOGS = "driver.json", "submitted.json", "logs"
_FIX = "folder: in the file for SLURM, with one that you may write to and that all nodes see."


class PreemptedError(RuntimeError):
    """SLURM took the node back, or never gave it."""


@dataclass
class _Task:
    """A payload under way. job: its number, "" until it is submitted. looks: so often its job was found over."""

    path: Path
    call: Call
    future: Future[bytes]
    job: str = ""
    looks: int = 0


class Slurm(Executors):
    """Jobs of SLURM. session: the folder of this driver's payloads, results and logs; a thread looks after them."""

    patience = 1.0

    def __init__(self, queue: Queue, session: Path, file: SlurmFile) -> None:
        self._queue, self._session, self.job_seconds = queue, session, file.pack_minutes * 60
        self.owned = file.cluster != "slurm"
        self._tasks: dict[str, _Task] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._latest, self._lost = time.monotonic(), False
        self._thread = threading.Thread(target=self._look_after, name="bnbench-slurm", daemon=True)
        self._thread.start()

    @property
    def workers(self) -> int:
        """Jobs that may run at once."""
        return self._queue.most

    def submit(self, function: Function, payload: bytes, place: int = 0) -> Future[bytes]:
        """The payload is on the disk when this returns. The future raises why its job gave no result."""
        name = secrets.token_hex(6)
        path = self._session / name
        write_whole(path.with_name(name + PAYLOAD), payload, _FIX)
        future: Future[bytes] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            call = Call(str(path), function.__module__, function.__qualname__)
            self._tasks[name] = _Task(path, call, future)
            self._latest = time.monotonic()
        return future

    def preempted(self, error: BaseException) -> bool:
        """Whether SLURM took the node back."""
        return isinstance(error, PreemptedError)

    def close(self, cancel: bool) -> None:
        """Cancel our jobs, and no others. Logs of lost jobs stay."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        with self._lock:
            jobs = [task.job for task in self._tasks.values() if task.job]
            self._tasks.clear()
        self._queue.cancel(jobs)
        for path in self._session.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)
        if not self._lost:
            shutil.rmtree(self._session, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._session.parent.rmdir()

    def _look_after(self) -> None:
        asked = time.monotonic()
        while not self._over.wait(_LOOK):
            self._collect()
            if time.monotonic() - self._latest > _QUIET:
                self._hand_in()
            if time.monotonic() - asked > self._queue.poll:
                self._look_for_lost()
                asked = time.monotonic()

    def _collect(self) -> None:
        """Results that are there."""
        with contextlib.suppress(OSError):
            names = {entry.name for entry in os.scandir(self._session) if entry.name.endswith(RESULT)}
            for name in names & {name + RESULT for name in list(self._tasks)}:
                content = (self._session / name).read_bytes()
                self._end(name.removesuffix(RESULT), content)

    def _end(self, name: str, content: bytes) -> None:
        with self._lock:
            task = self._tasks.pop(name)
        for ending in (PAYLOAD, BEGUN, RESULT):
            with contextlib.suppress(OSError):
                task.path.with_name(name + ending).unlink()
        if content.startswith(GOOD):
            task.future.set_result(content[1:])
        elif content.startswith(EARLY):
            task.future.set_exception(
                PreemptedError(f"job {task.job}: {content[1:].decode()} before it began")
            )
        else:
            self._lost = True
            task.future.set_exception(RuntimeError(content[1:].decode("utf-8", "replace")))

    def _hand_in(self) -> None:
        """Submit all that wait, as one array."""
        with self._lock:
            waiting = [task for task in self._tasks.values() if not task.job]
        if not waiting:
            return
        try:
            jobs = self._queue.submit([task.call for task in waiting])
        except ExecutorError as error:
            failure = error
            self._fail(waiting, lambda _: failure)
            return
        with self._lock:
            for task, job in zip(waiting, jobs, strict=True):
                task.job = job
            submitted = [task.job for task in self._tasks.values() if task.job]
        with contextlib.suppress(ExecutorError):
            write_whole(self._session / _SUBMITTED, to_json(submitted), _FIX)

    def _look_for_lost(self) -> None:
        """Jobs that ended, and left no result."""
        with self._lock:
            by_job = {task.job: task for task in self._tasks.values() if task.job}
        ended = self._queue.over(by_job)
        self._collect()
        for job, state in ended.items():
            task = by_job[job]
            task.looks += 1
            if task.looks >= _LOOKS and task.path.name in self._tasks:
                self._fail([task], lambda task, state=state: self._reason(task, state))  # type: ignore[misc]

    def _fail(self, tasks: list[_Task], reason: Callable[[_Task], BaseException]) -> None:
        for task in tasks:
            error = reason(task)
            self._lost = self._lost or not isinstance(error, PreemptedError)
            with self._lock:
                self._tasks.pop(task.path.name)
            task.future.set_exception(error)

    def _reason(self, task: _Task, state: str) -> BaseException:
        begun = task.path.with_name(task.path.name + BEGUN).exists()
        if state.startswith("PREEMPTED"):
            return PreemptedError(f"job {task.job}: {state}")
        logs = sorted((self._session / _LOGS).glob(f"{self._queue.number(task.job)}_*log.err"))
        last = _tail(logs[0]) if logs else ""
        if not begun and "No module named" in last:
            return ExecutorError(
                f"a node can't load what a job needs: {last}",
                "Every node needs the same bnbench, torch and submitit as this machine.",
                "python: and setup: in the file for SLURM, with an environment that all nodes see.",
            )
        log = f"; its log is {logs[0]}: {last}" if logs else ""
        where = "" if begun else ", before it began"
        return RuntimeError(f"its job {task.job} ended, {state}{where}{log}")


def _tail(path: Path) -> str:
    """The last line of a log."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
        lines = [
            line for line in lines if "Force Terminated" not in line
        ]  # srun's last words, which say nothing
        return lines[-1].strip() if lines else "it is empty"
    return "it can't be read"


def check_file(place: str) -> None:
    """Check a file for SLURM, and that SLURM answers. Raises ConfigError or ExecutorError."""
    if read_slurm_file(Path(place)).cluster == "slurm":
        check_slurm()


def open_slurm(word: Word, jobs: int | None) -> Executors:
    """The executor of a file. jobs: at once, for cluster: local. Raises ConfigError, ExecutorError, ResultsError."""
    file = read_slurm_file(Path(word.place))
    folder = file.folder or Path(word.place).parent / FOLDER
    session = folder / f"session-{secrets.token_hex(4)}"
    try:
        write_whole(session / _DRIVER, to_json(asdict(this_process())), _FIX)
        queue = open_queue(file, session / _LOGS, jobs)
        _end_others(folder, session, file, queue)
    except BaseException:
        shutil.rmtree(session, ignore_errors=True)
        raise
    return Slurm(queue, session, file)


def _end_others(folder: Path, session: Path, file: SlurmFile, queue: Queue) -> None:
    """End what drivers have left in the queue that were killed on this machine: their runs have kept their states.

    So no run is trained twice at a time. Those of cluster: local end with their driver.
    """
    for other in folder.glob("session-*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if other == session or not owner_of(json.loads(read_text(other / _DRIVER))).is_dead:
                continue
            if file.cluster == "slurm" and (other / _SUBMITTED).is_file():
                jobs = [str(job) for job in json.loads(read_text(other / _SUBMITTED))]
                queue.cancel(jobs)
                end = time.monotonic() + _KILL_WAIT
                while len(queue.over(jobs)) < len(jobs) and time.monotonic() < end:
                    time.sleep(_LOOK)
            shutil.rmtree(other, ignore_errors=True)
