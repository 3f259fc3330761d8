"""Workers of Ray: a cluster that is there, or one of this machine that is started here."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bnbench.executors import ray_guard
from bnbench.executors.base import ExecutorError, Executors, Function
from bnbench.executors.words import Word, no_answer

#: Seconds for which the list of nodes counts as known.
_KNOWN = 5.0
#: Seconds for a session on a cluster that listens.
_SESSION = 30.0
#: Bytes of Ray's store of objects: payloads and results, no data sets. Ray takes no less.
_STORE = 80 * 2**20
#: For a cluster of this machine: it listens to 127.0.0.1 alone (Ray's word for it is of other systems), lets nobody
#: else in, reports to nobody, writes nothing into HOME, and trains no more slowly than other processes.
_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_worker_niceness": "0",
}
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
        end.enter_context(_as_found())
        import ray

        if ray.is_initialized():  # by the user's script or notebook: it stays, and so does its environment
            end.close()
            return Ray(ray, end, jobs, owned=False)
        end.enter_context(_alone())
        end.enter_context(_silent())
        folder = _short_folder()
        end.enter_context(_guarded(folder))
        end.callback(ray.shutdown)
        with _handlers_kept():  # not in a thread: at its end, Ray's processes would end
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
            f"--executor {word.text}: Ray does not start here: {_first_line(error)}",
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
    end.enter_context(_silent())
    end.callback(ray.shutdown)
    _environment_read()
    address = word.place if word.place == "auto" else f"ray://{word.place}"
    try:
        with _handlers_kept():
            _within(_SESSION, lambda: ray.init(address=address, **_QUIET))
    except TimeoutError:
        raise ExecutorError(
            f"--executor {word.text}: it listens, and opens no session within {_SESSION:.0f} s.",
            "Ray's client server has failed now and then where gRPC forks.",
            "start the head again: GRPC_ENABLE_FORK_SUPPORT=0 ray start --head; or --executor ray:auto on the head.",
        ) from None
    except Exception as error:
        raise no_answer(word, error) from None
    return Ray(ray, end, jobs, owned=False)


def _within(seconds: float, call: Callable[[], object]) -> None:
    """Call it in a thread, as it may hang. Raises TimeoutError, or what it raised."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True, name="bnbench-ray")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM and breakpoints for itself. Afterwards they are as they were."""
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    breakpoints = os.environ.get("PYTHONBREAKPOINT")
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.pop("PYTHONBREAKPOINT", None)
        if breakpoints is not None:
            os.environ["PYTHONBREAKPOINT"] = breakpoints


@contextlib.contextmanager
def _as_found() -> Iterator[None]:
    """Inside, the environment is that of a cluster of this machine; afterwards it is as it was."""
    before = dict(os.environ)
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name in [*_ENVIRONMENT, "RAY_CLIENT_MODE"]:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Inside, Ray takes 127.0.0.1 for this machine's address, also where it was imported before."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    _environment_read()
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _guarded(folder: str) -> Iterator[None]:
    """Afterwards nothing is left of the cluster that has this folder, even where this process is killed inside."""
    guard = subprocess.Popen(
        [sys.executable, "-S", "-E", str(Path(ray_guard.__file__)), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Inside, Ray prints nothing: it would go to standard output, and what matters is said by us."""
    from ray._private import worker

    before, logger = getattr(worker, "print_to_stdstream", None), logging.getLogger("ray")
    level = logger.level
    worker.print_to_stdstream = lambda *_, **__: None
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        worker.print_to_stdstream = before
        logger.setLevel(level)


def _environment_read() -> None:
    """Let Ray read the environment again, where it was imported before: of it, whether a cluster has a secret."""
    from ray._raylet import Config

    Config.initialize("")


def _short_folder() -> str:
    """Ray's sockets lie in it, and the path of a socket has at most 107 bytes."""
    usual = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="bnray-", dir=usual if len(usual) < 24 else "/tmp")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
