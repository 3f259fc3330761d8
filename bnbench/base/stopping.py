"""A wish that this process stops training soon: a signal's handler states it, and the loop looks at it.

Runs save their state then and pause; the same command goes on from there.
"""

from __future__ import annotations

_reason = ""


def ask_to_stop(reason: str) -> None:
    """Let every run of this process pause at its next step. reason: such as "SIGTERM". May be called by a handler."""
    global _reason
    _reason = reason


def stop_asked() -> str:
    """The reason; "" where nobody asked."""
    return _reason


def go_on() -> None:
    """Forget the wish."""
    ask_to_stop("")
