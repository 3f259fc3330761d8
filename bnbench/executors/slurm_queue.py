"""Jobs of SLURM, and the same in processes of this machine: submitted by submitit, asked for their state, cancelled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bnbench.base.errors import BnbenchError
from bnbench.executors.slurm_file import SlurmFile
from bnbench.executors.slurm_worker import work

#: Seconds that one command of SLURM may take.
_PATIENCE = 60.0
#: States of a job that SLURM still has in hand.
_LIVE = frozenset(
    "PENDING RUNNING CONFIGURING COMPLETING REQUEUED REQUEUE_FED REQUEUE_HOLD RESIZING RESV_DEL_HOLD SIGNALING"
    " SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED".split()
)


class Queue(Protocol):
    """Where lists of payloads wait for a node. most: jobs that may be submitted at once, None for all."""

    most: int | None
    poll: float

    def submit(self, lists: Sequence[Path]) -> list[str]:
        """The number of the job of each. Raises BnbenchError."""
        ...

    def over(self, jobs: Iterable[str]) -> dict[str, str]:
        """Those that run no more and wait no more, and how they ended."""
        ...

    def cancel(self, jobs: Sequence[str]) -> None:
        """Warn them, so that their runs save their states, and end them."""
        ...


def open_queue(file: SlurmFile, folder: Path, jobs: int | None) -> Queue:
    """The queue that a file names. folder: for scripts and logs. Raises BnbenchError where it does not answer."""
    if file.cluster == "slurm":
        return SlurmQueue(file, folder)
    return LocalQueue(file, folder, jobs)


class SlurmQueue:
    """SLURM: one array for all lists that are submitted together. It needs no accounting."""

    most = None

    def __init__(self, file: SlurmFile, folder: Path) -> None:
        absent = [name for name in ("sbatch", "squeue", "scancel", "scontrol") if not shutil.which(name)]
        if absent:
            raise BnbenchError(
                f"SLURM's command {absent[0]} is not on this machine.",
                "",
                "run this on a machine that submits jobs to SLURM; or cluster: local, to try the file here.",
            )
        answer = _run("scontrol", "ping")
        if " UP" not in answer.replace(" is UP", " UP"):
            raise BnbenchError(f"SLURM does not answer: {answer or 'no answer'}.", "", "sinfo shows the same.")
        self.poll, self._name = file.poll_seconds, file.name
        self._executor = _executor(file, folder)

    def submit(self, lists: Sequence[Path]) -> list[str]:
        """One array of jobs. Raises BnbenchError with what sbatch said."""
        try:
            return [job.job_id for job in self._executor.map_array(work, [str(path) for path in lists])]
        except Exception as error:  # submitit's own, which it documents nowhere
            said = str(error).strip().splitlines()
            raise BnbenchError(f"sbatch: {said[-1] if said else type(error).__name__}") from None

    def over(self, jobs: Iterable[str]) -> dict[str, str]:
        """Asks squeue. Where it does not answer, none is."""
        wanted = list(jobs)
        words = ("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%r|%N", f"--name={self._name}")
        try:
            rows = [line.split("|") for line in _run(*words, check=True).splitlines()]
        except BnbenchError:
            return {}
        known = {row[0]: row[1:] for row in rows if len(row) == 4}
        ended = {}
        for job in wanted:
            state, reason, node = known.get(job, ["unknown to SLURM", "None", ""])
            if state not in _LIVE:
                why = f" ({reason})" if reason not in ("None", "") else ""
                ended[job] = f"{state}{why}{f' on {node}' if node else ''}"
        return ended

    def cancel(self, jobs: Sequence[str]) -> None:
        """scancel warns them by SIGTERM, and kills them after the cluster's KillWait. Only these."""
        for first in range(0, len(jobs), 500):
            with contextlib.suppress(BnbenchError):
                _run("scancel", *jobs[first : first + 500])


class LocalQueue:
    """submitit's local processes, of which as many run as there are cores."""

    poll = 0.2

    def __init__(self, file: SlurmFile, folder: Path, jobs: int | None) -> None:
        given = file.max_jobs if "max_jobs" in file.model_fields_set else None
        self.most: int | None = given or jobs or len(os.sched_getaffinity(0))
        self._executor, self._jobs = _executor(file, folder), {}
        self._inside = file.cluster == "debug"
        self._jobs: dict[str, Any] = {}

    def submit(self, lists: Sequence[Path]) -> list[str]:
        """A process for each."""
        jobs = [self._executor.submit(work, str(path)) for path in lists]
        for job in jobs:
            if self._inside:
                job.results()
            self._jobs[job.job_id] = job
        return [job.job_id for job in jobs]

    def over(self, jobs: Iterable[str]) -> dict[str, str]:
        """Those whose process is gone."""
        ended = {}
        for name in jobs:
            job = self._jobs.get(name)
            if job is None or self._inside or job.done():
                code = None if job is None or self._inside else job._process.returncode
                ended[name] = "its process ended" if code is None else f"its process ended with code {code}"
        return ended

    def cancel(self, jobs: Sequence[str]) -> None:
        """SIGTERM, which submitit hands on to the worker; after ten seconds SIGKILL."""
        processes = [self._jobs[name]._process for name in jobs if name in self._jobs]
        for process in processes:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while time.monotonic() < end and any(process.poll() is None for process in processes):
            time.sleep(0.05)
        for name in jobs:
            if name in self._jobs and self._jobs[name]._process.poll() is None:
                self._jobs[name].cancel()


def _executor(file: SlurmFile, folder: Path) -> Any:
    import submitit

    made = submitit.AutoExecutor(
        folder=folder,
        cluster=file.cluster,
        **({f"{file.cluster}_python": file.python} if file.python and file.cluster != "debug" else {}),
    )
    made.update_parameters(**file.parameters())
    return made


def _run(*words: str, check: bool = False) -> str:
    """What a command of SLURM says. Raises BnbenchError where it fails and `check` is set."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        if check:
            raise BnbenchError(f"{words[0]}: {error}.") from None
        return f"{words[0]} did not answer within {_PATIENCE:.0f} s"
    if check and done.returncode:
        raise BnbenchError(f"{words[0]}: {done.stderr.strip()}")
    return (done.stdout or done.stderr).strip()
