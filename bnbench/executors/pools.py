"""Executors of `concurrent.futures` as they are: loky's, and whatever a function of the user's returns."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any

from bnbench.base.errors import nearest
from bnbench.base.user_code import first_line, guarded, raise_interrupt
from bnbench.base.user_file import import_file, line_of
from bnbench.executors.base import ExecutorError, Executors, Function, ctrl_c_kept

#: Names that a factory may have for its number of workers.
_COUNTS = ("jobs", "max_workers", "workers", "n_workers", "num_workers")
#: What it must give.
_GIVES = "which returns an executor of concurrent.futures, such as ProcessPoolExecutor(4)"


class Pool(Executors):
    """An executor of `concurrent.futures`. end: ends its workers at once; None where it has no way to do that."""

    #: One lost process breaks a pool of them, and every job in it.
    shared_fate = True

    def __init__(self, executor: Executor, workers: int, end: Callable[[], object] | None = None) -> None:
        self._executor, self._workers, self._end, self._closed = executor, workers, end, False
        # whose workers another executor's are, such as those of a cluster, can't be known
        self.owned = hasattr(executor, "_processes")

    @property
    def workers(self) -> int:
        """As many as it was made with."""
        return self._workers

    def submit(self, function: Function, payload: bytes, place: int = 0) -> Future[bytes]:
        """Raises BrokenExecutor where it takes no more."""
        try:
            with ctrl_c_kept():  # it may start a process
                return self._executor.submit(function, payload)
        except RuntimeError as error:  # it was shut down, or its last worker is gone
            raise error if isinstance(error, BrokenExecutor) else BrokenExecutor(str(error)) from error

    def close(self, cancel: bool) -> None:
        """End its workers."""
        if self._closed:
            return
        self._closed = True
        if cancel:
            processes = list((getattr(self._executor, "_processes", None) or {}).values())
            with contextlib.suppress(Exception):
                self._executor.shutdown(wait=False, cancel_futures=True)
            if self._end:
                with contextlib.suppress(Exception):
                    self._end()
            for process in processes:
                with contextlib.suppress(Exception):
                    process.kill()
                    process.join()
        with contextlib.suppress(Exception):
            self._executor.shutdown(wait=True)


def open_loky(jobs: int | None) -> Executors:
    """Processes of this machine by loky, which are our own: nobody else's jobs come to them."""
    from loky import ProcessPoolExecutor
    from loky.backend.context import cpu_count

    workers = jobs or cpu_count()
    executor = ProcessPoolExecutor(max_workers=workers, timeout=None)
    return _Loky(executor, workers, lambda: executor.shutdown(wait=True, kill_workers=True))


class _Loky(Pool):
    def close(self, cancel: bool) -> None:
        """loky's own way of ending workers also ends theirs."""
        if self._closed:
            return
        self._closed = True
        self._executor.shutdown(wait=True, **({"kill_workers": True} if cancel else {}))


def open_file(place: str, jobs: int | None) -> Executors:
    """The executor that a function of the user's returns. place: FILE.py:NAME. Raises ExecutorError."""
    file, _, name = place.rpartition(":")
    shown = f"--executor {os.path.relpath(file)}:{name}"
    try:
        with guarded():
            module = import_file(Path(file), "bnbench_executor")
    except BaseException as error:
        raise_interrupt(error)
        where = f"{os.path.relpath(file)}:{line_of(error, Path(file))}"
        fix = f"the file must run with this Python: {sys.executable} {os.path.relpath(file)}"
        raise ExecutorError(f"{shown}: {where}: {first_line(error)}", fix=fix) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        own = (key for key, value in vars(module).items() if _is_of(value, module.__name__))
        names = [key for key in own if not key.startswith("_")]
        fix = f"--executor {os.path.relpath(file)}:{nearest(name, names) or (names or ['FACTORY'])[0]}, {_GIVES}."
        text = f"{shown}: the file has no function {name}. It has: {', '.join(names) or 'none'}."
        raise ExecutorError(text, fix=fix)
    try:
        with guarded(), ctrl_c_kept():
            executor = factory(**_count(factory, jobs))
    except BaseException as error:
        raise_interrupt(error)
        text = f"{shown}: it raised {first_line(error)}."
        fix = f"correct {name}, a function without required arguments {_GIVES}."
        raise ExecutorError(text, fix=fix) from error
    return _of_object(executor, shown, jobs)


def _is_of(value: object, module: str) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module


def _count(factory: Callable[..., Any], jobs: int | None) -> dict[str, int]:
    """The argument of the factory that is its number of workers, where --jobs gives one."""
    try:
        parameters = signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    names = [name for name in _COUNTS if name in parameters]
    return {names[0]: jobs} if names and jobs else {}


def _of_object(executor: Any, shown: str, jobs: int | None) -> Executors:
    if not callable(getattr(executor, "submit", None)) or not callable(getattr(executor, "shutdown", None)):
        raise ExecutorError(
            f"{shown}: it returned {type(executor).__name__}, which has no submit and shutdown.",
            fix=f"a function {_GIVES}.",
        )
    if isinstance(executor, ThreadPoolExecutor):
        executor.shutdown()
        raise ExecutorError(
            f"{shown}: it returned a ThreadPoolExecutor.",
            "Threads of one process share torch's random streams and its number of threads, so runs would mix.",
            "ProcessPoolExecutor in its place, or --executor loky.",
        )
    return Pool(executor, jobs or _workers_of(executor))


def _workers_of(executor: Any) -> int:
    """What the executor says of itself, else the cores of this machine."""
    for name in ("_max_workers", "max_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
