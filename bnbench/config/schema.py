"""Stub, being written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A metric and the value that counts as reached."""

    metric: str
    value: float


class Settings:
    """Stub."""

    def identity(self) -> Any:
        """Stub."""


class Study:
    """Stub."""

    seeds: tuple[int, ...]

    def cells(self) -> Any:
        """Stub."""
