"""What trains jobs elsewhere: one interface over `concurrent.futures`, Ray, and queues."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from typing import Self

from bnbench.base.errors import BnbenchError

#: Seconds after which an address counts as silent.
TIMEOUT = 10.0
#: What a worker calls: bytes in, bytes out.
Function = Callable[[bytes], bytes]


@contextmanager
def ctrl_c_kept() -> Iterator[None]:
    """Inside, processes and threads that are started never get a Ctrl-C, which is the driver's to handle."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ExecutorError(BnbenchError):
    """An executor is not known, not installed, does not answer, or can't start."""


class Executors(ABC):
    """Workers that take jobs. A context manager: at its end, what it started ends, and nothing else.

    machines: how many; 1 where all workers are on this one. shared_fate: whether a lost worker fails the other
    jobs in flight, too. owned: whether bnbench started the workers, so that they must not outlive it. job_seconds:
    to how many predicted seconds jobs are packed, 0 for none. patience: how many jobs wait at a worker beyond the one
    that it is at, so that it need not wait for the next.
    """

    machines: int = 1
    shared_fate: bool = False
    owned: bool = True
    job_seconds: float = 0.0
    patience: float = 0.0

    @property
    @abstractmethod
    def workers(self) -> int:
        """Processes that train at the same time, as of now: it may change, and is 1 at least."""

    @abstractmethod
    def submit(self, function: Function, payload: bytes, place: int = 0) -> Future[bytes]:
        """Let a worker call the function.

        place: jobs of one place (0 ... machines - 1) share a machine where possible. The future raises what became
        of the worker, if that was lost. Raises BrokenExecutor where no worker can take a job any more.
        """

    @abstractmethod
    def close(self, cancel: bool) -> None:
        """End what was started here. cancel: jobs that wait or run are given up. May be called twice."""

    def preempted(self, error: BaseException) -> bool:
        """Whether the system took the worker back: the job is done later, and nothing is held against it."""
        return False

    def broken(self, error: BaseException) -> bool:
        """Whether it takes no more jobs after this error, and is to be opened again."""
        return isinstance(error, BrokenExecutor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(cancel=kind is not None)
