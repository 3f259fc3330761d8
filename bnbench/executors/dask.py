"""Workers of Dask: a cluster that is there, or one of this machine that is started here."""

from __future__ import annotations

import contextlib
import logging
import time
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from bnbench.executors.base import TIMEOUT, ExecutorError, Executors, Function, ctrl_c_kept
from bnbench.executors.words import Word, no_answer

#: Seconds for which the list of workers counts as known.
_KNOWN = 5.0


class Dask(Executors):
    """Workers of a Dask cluster. cluster: one that was started here and ends with us; None for somebody else's."""

    def __init__(self, client: Any, cluster: Any, most: int | None) -> None:
        self._client, self._cluster, self._most = client, cluster, most
        self.owned = cluster is not None
        self._hosts: dict[str, list[str]] = {}
        self._asked = float("-inf")
        self._closed = False

    def _look(self) -> None:
        if time.monotonic() - self._asked < _KNOWN:
            return
        hosts: dict[str, list[str]] = {}
        for address in self._client.nthreads():
            hosts.setdefault(urlsplit(address).hostname or address, []).append(address)
        self._hosts, self._asked = hosts, time.monotonic()

    @property
    def workers(self) -> int:
        """Of the cluster as it is now; each takes one job at a time."""
        self._look()
        count = sum(map(len, self._hosts.values()))
        return max(1, min(count, self._most) if self._most else count)

    @property
    def machines(self) -> int:  # type: ignore[override]
        """Hosts with workers."""
        self._look()
        return max(1, len(self._hosts))

    def submit(self, function: Function, payload: bytes, place: int = 0) -> Future[bytes]:
        """Workers of one host are asked for, and others are good enough where those are gone."""
        self._look()
        hosts = sorted(self._hosts.values())
        wanted = {"workers": hosts[place % len(hosts)], "allow_other_workers": True} if len(hosts) > 1 else {}
        future: Future[bytes] = self._client.get_executor(pure=False, **wanted).submit(function, payload)
        return future

    def close(self, cancel: bool) -> None:
        """A cluster that is somebody else's stays; our jobs in it are given up."""
        if self._closed:
            return
        self._closed = True
        with _quiet():
            with contextlib.suppress(Exception):
                self._client.close()
            if self._cluster is not None:
                with contextlib.suppress(Exception):
                    self._cluster.close(timeout=TIMEOUT)


def open_dask(word: Word, jobs: int | None) -> Executors:
    """A client of the cluster at the address, or of a new one on this machine. Raises ExecutorError."""
    from distributed import Client

    if not word.place:
        return _on_this_machine(jobs)
    try:
        with _quiet():
            client = Client(f"tcp://{word.place}", timeout=TIMEOUT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise no_answer(word, error) from None
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
    except TimeoutError:
        client.close()
        raise ExecutorError(
            f"--executor {word.text}: the scheduler answers, and has no workers after {TIMEOUT:.0f} s.",
            fix=f"start some: dask worker {word.place} --nthreads 1",
        ) from None
    return Dask(client, None, jobs)


def _on_this_machine(jobs: int | None) -> Executors:
    import dask
    from distributed import Client, LocalCluster

    # a worker that dies is ours to judge: Dask would blame a job after some more tries of its own
    with _quiet(), ctrl_c_kept(), dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        cluster = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
        return Dask(Client(cluster, set_as_default=False), cluster, jobs)


@contextlib.contextmanager
def _quiet() -> Any:
    """Inside, Dask's loggers say nothing: what matters is said by us, in one message."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
