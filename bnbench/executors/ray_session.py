"""What a session of Ray needs around it: an environment, silence, an end to everything that it started."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bnbench.executors import ray_guard

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


def within(seconds: float, call: Callable[[], object]) -> None:
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
def handlers_kept() -> Iterator[None]:
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
def as_found() -> Iterator[None]:
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
def alone() -> Iterator[None]:
    """Inside, Ray takes 127.0.0.1 for this machine's address, also where it was imported before."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    environment_read()
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def guarded(folder: str) -> Iterator[None]:
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
def silent() -> Iterator[None]:
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


def environment_read() -> None:
    """Let Ray read the environment again, where it was imported before: of it, whether a cluster has a secret."""
    from ray._raylet import Config

    Config.initialize("")


def short_folder() -> str:
    """Ray's sockets lie in it, and the path of a socket has at most 107 bytes."""
    usual = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="bnray-", dir=usual if len(usual) < 24 else "/tmp")
