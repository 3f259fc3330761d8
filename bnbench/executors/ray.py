"""Workers of Ray: a cluster that is there, or one of this machine that is started here."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any

from bnbench.base.user_code import first_line
from bnbench.executors.base import TIMEOUT, ExecutorError, Executors, Function
from bnbench.executors.ray_session import (
    alone,
    as_found,
    environment_read,
    guarded,
    handlers_kept,
    short_folder,
    silent,
    within,
)
from bnbench.executors.words import Word, no_answer

#: Seconds for which the list of nodes counts as known.
_KNOWN = 5.0
#: Seconds for a session on a cluster that listens.
_SESSION = 30.0
#: Bytes of Ray's store of objects: payloads and results, no data sets. Ray takes no less.
_STORE = 80 * 2**20
_QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "configure_logging": False,
    "logging_level": logging.CRITICAL,
}


class Ray(Executors):
    """One worker for each CPU of a Ray cluster. end: ends what was started here, such as the session.

    folder: of a cluster that was started here; "" for somebody else's.
    """

    def __init__(self, ray: Any, end: contextlib.ExitStack, most: int | None, owned: bool) -> None:
        self._ray, self._end, self._most, self.owned = ray, end, most, owned
        self.folder = ""
        self._remote: dict[Function, Any] = {}
        self._running: set[Any] = set()
        self._nodes: dict[str, int] = {}
        self._asked = float("-inf")
        self._closed = False

    def _look(self) -> dict[str, int]:
        """CPUs by the number of each node that is alive."""
        if time.monotonic() - self._asked >= _KNOWN:
            with contextlib.suppress(Exception):
                alive = [node for node in self._ray.nodes() if node["Alive"]]
                counts = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in alive}
                self._nodes = {name: count for name, count in sorted(counts.items()) if count}
            self._asked = time.monotonic()
        return self._nodes

    @property
    def workers(self) -> int:
        """CPUs of the cluster as it is now."""
        count = sum(self._look().values())
        return max(1, min(count, self._most) if self._most else count)

    @property
    def machines(self) -> int:  # type: ignore[override]
        """Nodes with CPUs."""
        return max(1, len(self._look()))

    def submit(self, function: Function, payload: bytes, place: int = 0) -> Future[bytes]:
        """A node is asked for, and another is good enough where that one is gone. Ray itself tries nothing again."""
        if function not in self._remote:
            self._remote[function] = self._ray.remote(num_cpus=1, max_retries=0)(function)
        nodes, call = list(self._look()), self._remote[function]
        if len(nodes) > 1:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            wanted = NodeAffinitySchedulingStrategy(nodes[place % len(nodes)], soft=True)
            call = call.options(scheduling_strategy=wanted)
        reference = call.remote(payload)
        self._running.add(reference)
        future: Future[bytes] = reference.future()
        future.add_done_callback(lambda _: self._running.discard(reference))
        return future

    def preempted(self, error: BaseException) -> bool:
        """Whether a node was taken back by who lent it."""
        return bool(getattr(error, "preempted", False)) or "preempted" in str(error).lower()

    def close(self, cancel: bool) -> None:
        """A cluster that is somebody else's stays; our jobs in it are given up."""
        if self._closed:
            return
        self._closed = True
        for reference in list(self._running) if cancel else ():
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        with contextlib.suppress(Exception):
            self._end.close()


def open_ray(word: Word, jobs: int | None) -> Executors:
    """A session on the cluster at the address, or on a new one of this machine. Raises ExecutorError."""
    end = contextlib.ExitStack()
    try:
        if word.place:
            return _join(word, jobs, end)
        end.enter_context(as_found())
        import ray

        if ray.is_initialized():  # by the user's script or notebook: it stays, and so does its environment
            end.close()
            return Ray(ray, end, jobs, owned=False)
        end.enter_context(alone())
        end.enter_context(silent())
        folder = short_folder()
        end.enter_context(guarded(folder))
        end.callback(ray.shutdown)
        with handlers_kept():  # not in a thread: at its end, Ray's processes would end
            ray.init(
                address="local",
                num_cpus=jobs or len(os.sched_getaffinity(0)),
                include_dashboard=False,
                object_store_memory=_STORE,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                **_QUIET,
            )
        opened = Ray(ray, end, jobs, owned=True)
        opened.folder = folder
        return opened
    except ExecutorError:
        end.close()
        raise
    except Exception as error:
        end.close()
        raise ExecutorError(
            f"--executor {word.text}: Ray does not start here: {first_line(error)}",
            fix="--executor local, or loky.",
        ) from None
    except BaseException:  # Ctrl-C while it starts
        end.close()
        raise


def _join(word: Word, jobs: int | None, end: contextlib.ExitStack) -> Executors:
    """A session on a cluster that is there: auto is the one that this machine, or RAY_ADDRESS, belongs to."""
    import ray

    if word.place != "auto" and find_spec("grpc") is None:
        raise ExecutorError(
            f"--executor {word.text}: Ray is installed without its client.", fix="pip install 'bnbench[ray]'"
        )
    if ray.is_initialized():
        raise ExecutorError(
            f"--executor {word.text}: this process has a session of Ray already, on another cluster.",
            fix='--executor ray (executor="ray") to use that one.',
        )
    _check_auto(word)
    end.enter_context(silent())
    end.callback(ray.shutdown)
    environment_read()
    address = word.place if word.place == "auto" else f"ray://{word.place}"
    try:
        with handlers_kept():
            within(_SESSION, lambda: ray.init(address=address, **_QUIET))
    except TimeoutError:
        raise ExecutorError(
            f"--executor {word.text}: it listens, and opens no session within {_SESSION:.0f} s.",
            "Ray's client server has failed now and then where gRPC forks.",
            "start the head again: GRPC_ENABLE_FORK_SUPPORT=0 ray start --head; or --executor ray:auto on the head.",
        ) from None
    except Exception as error:
        if word.place == "auto":
            raise _no_cluster(word, first_line(error)) from None
        raise no_answer(word, error) from None
    return Ray(ray, end, jobs, owned=False)


def _check_auto(word: Word) -> None:
    """Raises ExecutorError where nothing listens at RAY_ADDRESS, which Ray itself finds out after a minute."""
    host, _, port = os.environ.get("RAY_ADDRESS", "").rpartition(":")
    if word.place != "auto" or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=TIMEOUT).close()
    except OSError as error:
        raise _no_cluster(word, f"RAY_ADDRESS is {host}:{port}, and there is {error}.") from None


def _no_cluster(word: Word, reason: str) -> ExecutorError:
    return ExecutorError(
        f"--executor {word.text}: no cluster of Ray was found from this machine: {reason}",
        fix="start one (ray start --head), set RAY_ADDRESS to one, or --executor ray for one of this machine alone.",
    )
