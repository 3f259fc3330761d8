"""A process beside a worker whose jobs run in threads, as Dask's do: it trains, and the worker waits for it.

Other threads of such a worker draw from the global random streams, and torch's settings are the whole process's. The
child gets bytes of jobs by its standard input and answers with bytes of results. It ends with its worker.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

#: Bytes of the length that comes before each piece.
_LENGTH = 8
#: Seconds between two looks at whether the worker is still there.
_LOOK = 0.5


def needs_child(threads: int) -> bool:
    """Whether this process can't train itself: in a thread, or forked after torch's import with runs of more threads.

    threads: of the runs. What is forked has none of torch's threads, and would wait for them for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        return True
    if threads == 1:
        return False
    from bnbench.engine.process import is_forked

    return is_forked()


class ChildLostError(RuntimeError):
    """The process that trained is gone."""


class _Child:
    """A child of this process. It is used by one thread at a time."""

    def __init__(self) -> None:
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bnbench.api.worker_child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is the driver's
        )

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def do(self, payload: bytes) -> bytes:
        """Raises ChildLostError."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(OSError):
            write(self._process.stdin, payload)
            if (answer := read(self._process.stdout)) is not None:
                return answer
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise ChildLostError(f"the process that trained {how}")

    def end(self) -> None:
        """At once: it has nothing to put in order."""
        self._process.kill()
        self._process.wait()


#: Those that wait for a job, and the lock on them.
_idle: list[_Child] = []
_lock = threading.Lock()


def do_in_child(payload: bytes) -> bytes:
    """Let a child of this process do a job. Raises ChildLostError."""
    with _lock:
        child = next((one for one in _idle if one.lives), None)
        _idle[:] = [one for one in _idle if one is not child and one.lives]
    if child is None:
        child = _Child()
        atexit.register(child.end)
    answer = child.do(payload)
    with _lock:
        _idle.append(child)
    return answer


def write(stream: IO[bytes], content: bytes) -> None:
    """A piece, with its length before it."""
    stream.write(len(content).to_bytes(_LENGTH, "big"))
    stream.write(content)
    stream.flush()


def read(stream: IO[bytes]) -> bytes | None:
    """The next piece; None where the other side is gone."""
    length = stream.read(_LENGTH)
    if len(length) < _LENGTH:
        return None
    content = stream.read(count := int.from_bytes(length, "big"))
    return content if len(content) == count else None


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGKILL)


def main(parent: int) -> None:
    """A child's life: job after job, until the worker goes."""
    from bnbench.api.worker import do_job

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed is no answer
    while (payload := read(sys.stdin.buffer)) is not None:
        write(answers, do_job(payload))


if __name__ == "__main__":
    main(int(sys.argv[1]))
