"""Signals while runs are trained: the first one lets them save their states and pause; a second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bnbench.base.stopping import ask_to_stop, stop_asked
from bnbench.base.user_code import handled, interrupt, received

#: Seconds for saving states after a signal, and after Ctrl-C, where somebody waits; then the command ends as it is.
GRACE, GRACE_OF_CTRL_C = 10.0, 2.0
#: How Ctrl-C is named as a reason.
CTRL_C = "Ctrl-C"
#: Of these a second one ends at once. SLURM sends SIGTERM after SIGUSR1, and that is no second one.
_HURRY = (signal.SIGINT, signal.SIGTERM)
#: torchrun sends on what the terminal has sent to all of its processes already, at most so many seconds later.
_RELAYED, _ECHO = "TORCHELASTIC_RUN_ID", 1.0


@contextmanager
def pausing(until: float | None = None) -> Iterator[None]:
    """Inside, signals that a command handles ask its runs to pause. Outside of a command nothing changes.

    until: by the monotonic clock, when runs that hang are given up.
    """
    numbers = handled()
    if not numbers or threading.current_thread() is not threading.main_thread():
        yield
        return
    pause = _Pause()
    before: dict[int, Any] = {number: signal.signal(number, pause.ask) for number in numbers}
    if alarm := hasattr(signal, "SIGALRM"):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, pause.expire)
        if until is not None:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, until - time.monotonic()))
    try:
        yield
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def grace_is_over() -> bool:
    """Whether the command ends as the runs did not pause in time; else somebody wanted it to end at once."""
    return signal.SIGALRM in received()[-1:] if hasattr(signal, "SIGALRM") else False


class _Pause:
    """What came so far."""

    def __init__(self) -> None:
        self._asked: list[int] = []
        self._last = 0.0

    def ask(self, number: int, frame: FrameType | None) -> None:
        since, self._last = time.monotonic() - self._last, time.monotonic()
        if number in self._asked and number in _HURRY:
            if _RELAYED in os.environ and since < _ECHO:
                return
            interrupt(number)
        self._asked.append(number)
        if not stop_asked():
            ask_to_stop(CTRL_C if number == signal.SIGINT else signal.Signals(number).name)
        if len(self._asked) == 1 or number == signal.SIGINT:
            self._wait_for(GRACE_OF_CTRL_C if number == signal.SIGINT else GRACE)

    def expire(self, number: int, frame: FrameType | None) -> None:
        interrupt(number)

    def _wait_for(self, seconds: float) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds)
        else:  # nothing would end the waiting
            interrupt(self._asked[0])
