"""Where the time of a command goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_START = time.perf_counter()


class Phases:
    """A stopwatch that is always in exactly one phase; the first runs since this file was loaded."""

    def __init__(self, first: str = "start and imports") -> None:
        self._name, self._since = first, _START
        self._seconds: dict[str, float] = {}

    def enter(self, name: str) -> None:
        """From now on the time counts for that phase."""
        now = time.perf_counter()
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + now - self._since
        self._name, self._since = name, now

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Inside, time counts for that phase; then for the one before again."""
        before = self._name
        self.enter(name)
        try:
            yield
        finally:
            self.enter(before)

    def seconds(self) -> dict[str, float]:
        """Seconds of every phase so far, in the order of their first end."""
        self.enter(self._name)
        return dict(self._seconds)
