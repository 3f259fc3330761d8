"""A command that is to be killed: started as such, or forked from a process that has made the imports.

A forked one writes down when each step began and when each state was kept, so that what a kill lost can be counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faulty_disk import VARIABLE, Fault, environment

ROOT = Path(__file__).parents[2]
#: What a forked command has in its environment beside this process's. Torch's caches are no leftovers of a kill.
_CHANGED = ("OMP_NUM_THREADS", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR")
#: The same command, which takes workers for a study of any length.
_WITH_WORKERS = (
    "import bnbench.engine.schedule as schedule; schedule.WORTH_WORKERS = 0.0; "
    "from bnbench.cli.app import main; main()"
)
#: So long a process may outlive the one that started it, in seconds.
GRACE = 20.0


@dataclass(frozen=True)
class Command:
    """`bnbench compare` with these words. scratch: its temporary folder, its output and its notes.

    forked: from this process; else it is a process of its own, of that python. fault: of the disk, None for none.
    workers: whether it starts worker processes, even where the study is too short to be worth them.
    """

    words: Sequence[str]
    scratch: Path
    python: str = sys.executable
    forked: bool = False
    fault: Fault | None = None
    workers: bool = False

    @property
    def output(self) -> Path:
        """What it printed."""
        return self.scratch / "output.txt"

    @property
    def notes(self) -> Path:
        """What the hooks of a forked one wrote: a line of JSON each."""
        return self.scratch / "notes.txt"

    @property
    def temporary(self) -> Path:
        """Its TMPDIR."""
        return self.scratch / "tmp"

    def start(self) -> int:
        """The id of its process, which leads a session of its own."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        if self.forked:
            return self._fork()
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [self.python, *(["-c", _WITH_WORKERS] if self.workers else ["-m", "bnbench"]), *self.words],
                cwd=ROOT, env=self._environment(), stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        process.returncode = 0  # it is waited for by its id
        return process.pid

    def _environment(self) -> dict[str, str]:
        base = environment(self.fault) if self.fault else dict(os.environ)
        paths = [str(ROOT), *([base["PYTHONPATH"]] if base.get("PYTHONPATH") else [])]
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(self.scratch.parents[1] / "inductor")}
        threads = {
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        return {**base, **threads, **caches}

    def _fork(self) -> int:
        sys.stdout.flush()
        if child := os.fork():
            return child
        code = 70
        try:
            os.setsid()
            with self.output.open("ab") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            changed = self._environment()
            os.environ.update({name: changed[name] for name in _CHANGED})
            sys.argv = ["bnbench", *self.words]
            _hook(self.notes)
            if self.fault:
                os.environ[VARIABLE] = json.dumps(vars(self.fault))
                from tests.faulty_disk import install

                install()
            code = _main()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _main() -> int:
    import tempfile

    from bnbench.cli.app import main

    tempfile.tempdir = None
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _hook(notes: Path) -> None:
    """Write down the beginning of every step, and of every state the begin and the end."""
    from bnbench.engine.loop import Training
    from bnbench.results.states import FolderStates

    number = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    train_step, keep = Training.train_step, FolderStates.keep

    def note(kind: str, run: Any, step: int) -> None:
        values = [kind, f"{run.label} {run.seed}", step, time.monotonic()]
        os.write(number, (json.dumps(values) + "\n").encode())

    def noted_step(self: Any, step: int, *words: Any) -> Any:
        note("step", self.runs[0], step)
        return train_step(self, step, *words)

    def noted_keep(self: Any, run: Any, step: int, content: bytes) -> None:
        note("keep", run, step)
        keep(self, run, step, content)
        note("kept", run, step)

    Training.train_step = noted_step  # type: ignore[method-assign, assignment]
    FolderStates.keep = noted_keep  # type: ignore[method-assign]


def wait(process: int, seconds: float) -> int | None:
    """Its exit code, negative for the signal that killed it; None where it is still there after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.003)


def members(session: int) -> dict[int, str]:
    """The processes of a session that run, by their ids, and their command lines."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in ("Z", "X"):
                line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry)] = line.decode(errors="replace")
    return found


def workers(session: int, leader: int) -> list[int]:
    """Processes that train: those that a process other than the command itself has started by forking."""
    parents = {}
    for process in members(session):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            parents[process] = int(fields[1])
    return sorted(process for process, parent in parents.items() if parent != leader and parent in parents)


def orphans(session: int) -> dict[int, str]:
    """What is left of a session after the grace. They are killed then, as this machine is shared."""
    end = time.monotonic() + GRACE
    while (left := members(session)) and time.monotonic() < end:
        time.sleep(0.02)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left


def shared_memory(session_ids: Sequence[int]) -> list[str]:
    """Files in /dev/shm that carry the number of one of these processes in their names."""
    names = os.listdir("/dev/shm") if Path("/dev/shm").is_dir() else []
    return sorted(name for name in names if any(str(process) in name for process in session_ids))


def temporary_files(folder: Path) -> list[str]:
    """What lies in a temporary folder, at most the first few names; torch's own caches are no leftovers."""
    names = (path.relative_to(folder) for path in folder.rglob("*")) if folder.is_dir() else ()
    return sorted(str(name) for name in names if not name.parts[0].startswith("torchinductor_"))[:5]


@dataclass(frozen=True)
class Notes:
    """What a forked command wrote down until it was killed."""

    lines: Sequence[tuple[str, str, int, float]]

    @classmethod
    def of(cls, path: Path) -> Notes:
        """A last line that the kill cut is left out."""
        lines = []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):
                kind, run, step, at = json.loads(line)
                lines.append((str(kind), str(run), int(step), float(at)))
        return cls(lines)

    def stage(self, results: Path) -> str:
        """Where the command was when it was killed."""
        if not self.lines:
            return "start"
        if self.lines[-1][0] == "keep":
            return "writing a state"
        return "training" if any(results.glob(".states/*/*")) or not _all_there(results) else "results"

    def lost(self, killed: float, kept: Mapping[str, int], results: Path) -> tuple[float, float] | None:
        """Seconds of training that a kill lost, and the most that it may have; None where no run was in training.

        kept: by run, the step of its last whole state. The most: what the steps and saves took that may lie between.
        A run that is on disk by then has lost nothing.
        """
        steps = [(run, step, at) for kind, run, step, at in self.lines if kind == "step"]
        if not steps:
            return None
        run = steps[-1][0]
        variant, _, seed = run.rpartition(" ")
        if any(results.glob(f"runs/{variant}-{'?' * 12}/seed-{seed}/run.json")):
            return None
        own = [(step, at) for name, step, at in steps if name == run]
        since = next((at for step, at in own if step >= kept.get(run, 0)), own[-1][1])
        gaps = [later - earlier for (_, earlier), (_, later) in pairwise(own)]
        under_way = killed - own[-1][1]
        return killed - since, max(gaps, default=0.0) + under_way + 0.05

    def costs(self) -> Iterator[float]:
        """Seconds of each state."""
        began: dict[str, float] = {}
        for kind, run, _, at in self.lines:
            if kind == "keep":
                began[run] = at
            elif kind == "kept" and run in began:
                yield at - began.pop(run)


def _all_there(results: Path) -> bool:
    """Whether every planned run is on disk."""
    if not (results / "plan.json").exists():
        return False
    planned = json.loads((results / "plan.json").read_text())["cells"]
    there = len(list(results.glob("runs/*/seed-*/run.json")))
    return bool(there) and there >= sum(len(cell["seeds"]) for cell in planned)
