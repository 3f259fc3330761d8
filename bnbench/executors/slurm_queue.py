"""Jobs of SLURM, and the same in processes of this machine: submitted by submitit, looked at, cancelled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bnbench.base.files import read_text
from bnbench.base.user_code import first_line
from bnbench.executors.base import TIMEOUT, ExecutorError, ctrl_c_kept
from bnbench.executors.slurm_file import SlurmFile
from bnbench.executors.slurm_worker import work

#: Seconds in which local processes save the states of their runs when they are cancelled.
_LOCAL_GRACE = 10.0
#: Seconds that one command of SLURM may take.
_PATIENCE = 30.0
#: States of a job that SLURM still has in hand.
_LIVE = frozenset(
    "PENDING RUNNING CONFIGURING COMPLETING REQUEUED REQUEUE_FED REQUEUE_HOLD RESIZING RESV_DEL_HOLD SIGNALING"
    " SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED".split()
)


class Call(NamedTuple):
    """What a job calls: see `slurm_worker.work`."""

    task: str
    module: str
    name: str


class Queue(Protocol):
    """Where jobs wait for a node. most: how many run at once. poll: seconds between two questions."""

    most: int
    poll: float

    def submit(self, calls: Sequence[Call]) -> list[str]:
        """The number of the job of each. Raises ExecutorError."""
        ...

    def over(self, jobs: Iterable[str]) -> dict[str, str]:
        """Those that neither run nor wait, and how they ended."""
        ...

    def cancel(self, jobs: Sequence[str]) -> None:
        """Warn them, so that their runs save their states, and end them. None but these."""
        ...

    def number(self, job: str) -> str:
        """What the names of its logs begin with."""
        ...


def open_queue(file: SlurmFile, folder: Path, jobs: int | None) -> Queue:
    """The queue that a file names. folder: for scripts and logs. Raises ExecutorError where it does not answer."""
    if file.cluster == "slurm":
        check_slurm()
        return SlurmQueue(file, folder)
    return LocalQueue(file, folder, jobs)


def check_slurm() -> None:
    """Raises ExecutorError where SLURM is not here, or does not answer."""
    absent = [name for name in ("sbatch", "squeue", "scancel", "scontrol") if not shutil.which(name)]
    if absent:
        raise ExecutorError(
            f"SLURM's command {absent[0]} is not on this machine.",
            fix="start bnbench where sbatch works; or try the file here with cluster: local.",
        )
    try:
        answer = _run("scontrol", "ping", seconds=TIMEOUT)
    except ExecutorError as error:
        raise ExecutorError(f"SLURM does not answer: {error.what}", fix="see what sinfo says.") from None
    if " UP" not in answer:
        raise ExecutorError(f"SLURM does not answer: {answer}", fix="see what sinfo says.")


class SlurmQueue:
    """SLURM: one array for all jobs that are submitted together. It needs no accounting."""

    def __init__(self, file: SlurmFile, folder: Path) -> None:
        self.poll, self.most = file.poll_seconds, file.most_jobs
        self._executor = _executor(file, folder)

    def submit(self, calls: Sequence[Call]) -> list[str]:
        """One array of jobs. Raises ExecutorError with what sbatch said."""
        try:
            return [job.job_id for job in self._executor.map_array(work, *zip(*calls, strict=True))]
        except Exception as error:  # submitit documents none of its own
            said = [line for line in str(error).splitlines() if line.startswith("sbatch: ")]
            reason = "\n".join(said) or f"submitit: {first_line(error)}"
            raise ExecutorError(
                f"SLURM takes no jobs.\n{reason}", fix="correct the file for SLURM."
            ) from None

    def over(self, jobs: Iterable[str]) -> dict[str, str]:
        """Asks squeue. Where it does not answer, none is over."""
        wanted = set(jobs)
        if not wanted:
            return {}
        ids = ",".join(sorted({job.partition("_")[0] for job in wanted}))
        try:
            text = _run("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%r|%N", "-j", ids)
        except ExecutorError as error:
            if "Invalid job id" not in str(error):
                return {}
            text = ""
        rows = [line.split("|") for line in text.splitlines()]
        known = {row[0]: row[1:] for row in rows if len(row) == 4}
        ended = {}
        for job in wanted:
            state, reason, node = known.get(job, ("unknown to SLURM", "", ""))
            if state not in _LIVE:
                why = f" ({reason})" if reason not in ("None", "") else ""
                ended[job] = f"{state}{why}{f' on {node}' if node else ''}"
        return ended

    def cancel(self, jobs: Sequence[str]) -> None:
        """scancel warns by SIGTERM, and SLURM kills after its KillWait."""
        for first in range(0, len(jobs), 200):
            with contextlib.suppress(ExecutorError):
                _run("scancel", *jobs[first : first + 200])

    def number(self, job: str) -> str:
        """The job's own."""
        return job


class LocalQueue:
    """submitit's local processes: as many run as there are cores. cluster debug: this process, one after the other."""

    poll = 0.2

    def __init__(self, file: SlurmFile, folder: Path, jobs: int | None) -> None:
        self._inside = file.cluster == "debug"
        self.most = 1 if self._inside else file.max_jobs or jobs or len(os.sched_getaffinity(0))
        self._executor = _executor(file, folder)
        self._jobs: dict[str, Any] = {}
        self._waiting: dict[str, Call] = {}
        self._count = 0

    def submit(self, calls: Sequence[Call]) -> list[str]:
        """They wait until a core is free."""
        names = [f"local-{self._count + index}" for index in range(len(calls))]
        self._count += len(calls)
        self._waiting.update(zip(names, calls, strict=True))
        self._fill()
        return names

    def _fill(self) -> None:
        running = sum(not self._is_over(job) for job in self._jobs.values())
        for name in list(self._waiting)[: max(0, self.most - running)]:
            with ctrl_c_kept():
                job = self._executor.submit(work, *self._waiting.pop(name))
            if self._inside:
                job.results()
            self._jobs[name] = job

    def _is_over(self, job: Any) -> bool:
        return self._inside or job._process.poll() is not None

    def over(self, jobs: Iterable[str]) -> dict[str, str]:
        """Those whose process is gone."""
        self._fill()
        return {
            name: "no longer a process"
            for name in jobs
            if name not in self._waiting and (name not in self._jobs or self._is_over(self._jobs[name]))
        }

    def cancel(self, jobs: Sequence[str]) -> None:
        """SIGTERM, which submitit hands on to the worker; after ten seconds SIGKILL. Waits for all that have ended."""
        self._waiting.clear()
        processes = [self._jobs[name]._process for name in jobs if name in self._jobs and not self._inside]
        for process in processes:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + _LOCAL_GRACE
        while time.monotonic() < end and any(process.poll() is None for process in processes):
            time.sleep(0.05)
        for process in processes:
            if process.poll() is None:
                _kill(process)
        for job in () if self._inside else self._jobs.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                job._process.wait(_LOCAL_GRACE)

    def number(self, job: str) -> str:
        """That of its process."""
        return str(self._jobs[job].job_id) if job in self._jobs else job


def _kill(process: subprocess.Popen[bytes]) -> None:
    """A process of submitit's with the worker that it has started."""
    children = ""
    with contextlib.suppress(OSError):
        children = read_text(Path(f"/proc/{process.pid}/task/{process.pid}/children"))
    for number in (process.pid, *map(int, children.split())):
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)


def _executor(file: SlurmFile, folder: Path) -> Any:
    import submitit

    python = {f"{file.cluster}_python": file.python} if file.python and file.cluster != "debug" else {}
    # it prints what sbatch says, which the message says too
    vars(submitit.core.utils)["print"] = lambda *_, **__: None
    made = submitit.AutoExecutor(folder=folder, cluster=file.cluster, **python)
    made.update_parameters(**file.parameters())
    return made


def _run(*words: str, seconds: float = _PATIENCE) -> str:
    """What a command of SLURM says. Raises ExecutorError where it fails, or does not answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"{words[0]} gave no answer within {seconds:.0f} s.") from None
    except OSError as error:
        raise ExecutorError(f"{words[0]}: {error}.") from None
    if done.returncode:
        raise ExecutorError((done.stderr or done.stdout).strip() or f"{words[0]} failed.")
    return done.stdout.strip()
