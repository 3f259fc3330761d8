"""Running the user's code: its output is kept out of stdout, and its exceptions are distinguished from a Ctrl-C."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

#: The signals that end a command, and whether one came: code may raise a KeyboardInterrupt by itself.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
_handled: list[int] = []
_received: list[int] = []


@contextlib.contextmanager
def signals_handled() -> Iterator[None]:
    """Inside, Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 raise KeyboardInterrupt, which `is_interrupt` knows.

    Signals that are ignored stay ignored.
    """
    before: dict[signal.Signals, Any] = {}
    _received.clear()
    with contextlib.suppress(ValueError):  # only the main thread may ask for signals
        for number in _SIGNALS:
            if (old := signal.getsignal(number)) is not signal.SIG_IGN:
                signal.signal(number, interrupt)
                before[number] = old
    _handled[:] = before
    try:
        yield
    finally:
        _handled.clear()
        _received.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None = None) -> NoReturn:
    """The handler of these signals."""
    _received.append(number)
    raise KeyboardInterrupt


def is_interrupt(error: BaseException) -> bool:
    """Whether the user or the system wants the command to end; code can raise a KeyboardInterrupt by itself."""
    if bool(_received):
        return isinstance(error, KeyboardInterrupt)
    return isinstance(error, KeyboardInterrupt) and signal.SIGINT not in _handled and not _in_worker()


def _in_worker() -> bool:
    """Workers ignore Ctrl-C, which their parent handles."""
    with contextlib.suppress(ValueError):
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return False


def handled() -> tuple[int, ...]:
    """The signals that a command handles now; none outside of one."""
    return tuple(_handled)


def received() -> tuple[int, ...]:
    """The signals that came."""
    return tuple(_received)


def was_interrupted() -> bool:
    """Whether a signal came, even if the user's code caught the exception."""
    return bool(_received)


def raise_interrupt(error: BaseException) -> None:
    """Raise it again where it is a real interrupt: to be called first where everything is caught."""
    if is_interrupt(error):
        raise error


def text_of(error: BaseException) -> str:
    """Type and message, on one line where it has one."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{text} (the code tried to end the program)" if isinstance(error, SystemExit) else text


def first_line(error: BaseException) -> str:
    """For example "ValueError: its message", on one line."""
    try:
        text = str(error).strip().partition("\n")[0][:300]
    except BaseException:  # its __str__ raises
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Inside, the user's code may print and exit: its output goes to stderr, as stdout is for results.

    So does what C code and child processes write. `os._exit` raises SystemExit, which is caught as what it is.
    """
    _flush()
    kept = _redirect()
    leave, process = os._exit, os.getpid()

    def raise_exit(status: int) -> NoReturn:
        if os.getpid() != process:  # a child that it has forked
            leave(status)
        raise SystemExit(status)

    os._exit = raise_exit
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os._exit = leave
        _flush()
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _redirect() -> int | None:
    """Point descriptor 1 at descriptor 2. Returns a copy of 1, None where a test or a notebook has its own streams."""
    try:
        if sys.stdout.fileno() != 1:
            return None
        kept = os.dup(1)
    except (OSError, ValueError, AttributeError):
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(kept)
        return None
    return kept


def _flush() -> None:
    """Flush Python's buffer and C's, whose content belongs to the target that they had when it was written."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__):
        with contextlib.suppress(Exception):
            if stream is not None:
                stream.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)
