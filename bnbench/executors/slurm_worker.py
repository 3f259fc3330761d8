"""What a job of SLURM runs: payload after payload of one list, until it is asked to stop.

submitit's own handlers would requeue or end the job; these let runs save their state. What is begun, what is done and
what went wrong lies in files, as SLURM may start the same job again on another node.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from bnbench.base.files import read_text, write_whole
from bnbench.base.stopping import ask_to_stop, stop_asked
from bnbench.base.user_code import text_of

#: SLURM warns by SIGTERM before it preempts a job, and by SIGUSR2 before its time is over (as submitit asks it to).
SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT")
#: The first byte of a result: what the function gave, or why it gave nothing.
GOOD, BAD = b"+", b"-"


def work(path: str) -> None:
    """Do what the list at `path` names. It may be called again with the same list: what is done stays done."""
    _listen()
    listed = json.loads(read_text(Path(path)))
    folder = Path(path).parent
    function: Callable[[bytes], bytes] | None = None
    for key in listed["keys"]:
        payload, result = folder / f"{key}.payload", folder / f"{key}.result"
        if stop_asked() or result.exists() or not payload.exists():
            continue
        write_whole(folder / f"{key}.started", f"{socket.gethostname()} {os.getpid()}")
        try:
            function = function or getattr(importlib.import_module(listed["module"]), listed["name"])
            content = GOOD + function(payload.read_bytes())
        except BaseException as error:  # whatever stops a worker is told to the driver, which decides
            content = BAD + f"on {socket.gethostname()}: {text_of(error)}".encode()
        write_whole(result, content)


def _listen() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for name in SIGNALS:
        signal.signal(getattr(signal, name), _stop)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    ask_to_stop(signal.Signals(number).name)
