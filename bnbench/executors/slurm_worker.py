"""What a job of SLURM runs: one payload, until it is asked to stop.

submitit's own handlers would requeue or end the job; these let runs save their state. What is begun and what is done
lies in files, as SLURM may start the same job again on another node.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from bnbench.base.files import write_whole
from bnbench.base.stopping import ask_to_stop, stop_asked
from bnbench.base.user_code import text_of

#: SLURM warns by SIGTERM before it preempts or cancels a job, and by SIGUSR2 before its time is over, as submitit asks.
SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT")
#: The first byte of a result: what the function gave; why it gave nothing; which signal came before its call.
GOOD, BAD, EARLY = b"+", b"-", b"="
#: What stands beside a task: what it gets, that it was begun, what it gave.
PAYLOAD, BEGUN, RESULT = ".payload", ".begun", ".result"


def work(task: str, module: str, name: str) -> None:
    """Call the function with the payload of a task. It may be called again: what is done stays done.

    task: path of the task's files, without their ending.
    """
    _listen()
    payload, result = Path(task + PAYLOAD), Path(task + RESULT)
    if result.exists() or not payload.exists():
        return
    write_whole(Path(task + BEGUN), f"{socket.gethostname()} {os.getpid()}\n")
    try:
        function: Callable[[bytes], bytes] = getattr(importlib.import_module(module), name)
        content = EARLY + stop_asked().encode() if stop_asked() else GOOD + function(payload.read_bytes())
    except BaseException as error:  # whatever stops a worker reaches the driver, which decides
        content = BAD + f"{text_of(error)} (on {socket.gethostname()})".encode()
    if payload.exists():  # its driver has not given it up
        write_whole(result, content)


def _listen() -> None:
    if threading.current_thread() is threading.main_thread():
        for name in SIGNALS:
            signal.signal(getattr(signal, name), _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    ask_to_stop(signal.Signals(number).name)
