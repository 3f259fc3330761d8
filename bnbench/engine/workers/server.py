"""The process that workers are forked from: it has made imports and nothing else. Starting it needs no torch."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

from bnbench.base import machine

#: Loaded once in the server, so that a worker starts in a moment.
_PRELOAD = ["bnbench.engine.workers.pool", "bnbench.engine.workers.preload"]


#: The process that started it: one that is forked from that process has another number.
_owner: int | None = None


def can_start_workers() -> bool:
    """Not in a process that is a worker of another program itself, nor in one that was forked with the server there."""
    from multiprocessing import parent_process

    return parent_process() is None and _owner in (None, os.getpid())


def start_server() -> None:
    """Start it, if it isn't there; its imports go on in the background."""
    global _owner
    from multiprocessing import forkserver, resource_tracker  # not there on Windows

    run = forkserver.ensure_running if _owner == os.getpid() else _run_without_a_file
    forkserver.set_forkserver_preload(_PRELOAD)
    # a signal may go to every process of the terminal or of the job: it is this one's to handle
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
    try:
        resource_tracker.ensure_running()  # started by the server's start, it would lift the block
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    _owner = os.getpid()


def _run_without_a_file() -> None:
    """Start it with a socket that has no name in the temporary folder, where a kill would leave it behind."""
    from multiprocessing import forkserver, process

    folder = tempfile.mkdtemp(prefix="pymp-")
    config = process.current_process()._config  # type: ignore[attr-defined]
    others = config.get("tempdir")
    try:
        if _is_found_by_number(folder):
            config["tempdir"] = folder  # where multiprocessing puts the socket
        forkserver.ensure_running()
        server: Any = forkserver._forkserver
        address = server._forkserver_address
        if os.path.dirname(address) == folder:
            server._forkserver_address = _by_number(address)
    finally:
        if config.get("tempdir") == folder:
            config["tempdir"] = others
        shutil.rmtree(folder, ignore_errors=True)


def _by_number(address: str) -> str:
    """Another address of a socket, which stays when its name is removed, as long as this process lives."""
    return f"/proc/self/fd/{os.open(address, os.O_PATH)}"


def _is_found_by_number(folder: str) -> bool:
    """Whether this system connects to sockets that way: Linux does."""
    address = str(Path(folder, "s"))
    try:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
            listener.bind(address)
            listener.listen()
            number = _by_number(address)
            try:
                os.unlink(address)
                other.connect(number)
            finally:
                os.close(int(number.rpartition("/")[2]))
    except (OSError, AttributeError):
        return False
    return True


def count_cores() -> int:
    """Cores that this process may use; 1 where processes can't share memory."""
    return machine.count_cores() if os.name == "posix" else 1
