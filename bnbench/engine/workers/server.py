"""The process that workers are forked from: it has made imports and nothing else. Starting it needs no torch."""

from __future__ import annotations

import os
import signal

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

    forkserver.set_forkserver_preload(_PRELOAD)
    # a signal may go to every process of the terminal or of the job: it is this one's to handle
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
    try:
        resource_tracker.ensure_running()  # started by the server's start, it would lift the block
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    _owner = os.getpid()


def count_cores() -> int:
    """Cores that this process may use; 1 where processes can't share memory."""
    return machine.count_cores() if os.name == "posix" else 1
