"""Typed values of a finding's file, each mistake gathered with its line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bnbench.base.errors import Mistake, nearest
from bnbench.study.yaml_source import Path_, Source


class Fields:
    """One mapping of the file. missing, unknown and mistyped keys become mistakes of the list that all share."""

    def __init__(
        self, source: Source, path: Path_, values: Mapping[str, Any], mistakes: list[Mistake]
    ) -> None:
        self.source, self.path, self.values, self.mistakes = source, path, values, mistakes

    def wrong(self, key: str, problem: str) -> None:
        """Note a mistake at the line of a key."""
        name = ".".join((*self.path, key)) if key else ".".join(self.path)
        place = self.source.place((*self.path, key) if key else self.path)
        self.mistakes.append(Mistake(place, f"{name}: {problem}" if name else problem))

    def refuse_unknown(self, known: Sequence[str]) -> None:
        """Note every key that is not one of these, with the nearest that is."""
        known = list(dict.fromkeys(known))
        for key in self.values:
            if key not in known:
                guess = nearest(key, known)
                hint = f' Did you mean "{guess}"?' if guess else ""
                section = ".".join(self.path) or "a finding"
                place = self.source.place((*self.path, key))
                message = f'unknown key "{key}" in {section}.{hint} Known: {", ".join(known)}.'
                self.mistakes.append(Mistake(place, message))

    def text(self, key: str, fix: str = "", *, required: bool = True) -> str:
        """A text that is not empty; "" where it is missing or wrong."""
        value = self.values.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
        if value is not None and not isinstance(value, str):
            self.wrong(key, f"{value!r} is not a text. Fix: put it into quotes.")
        elif required or key in self.values:
            self.wrong(key, f"it is missing. Fix: {fix}")
        return ""

    def number(self, key: str, low: float = -math.inf, *, whole: bool = False) -> float | None:
        """A finite number from `low` on; None where it is missing or wrong."""
        value = self.values.get(key)
        if value is None:
            return None
        if is_number(value) and value >= low and (not whole or float(value).is_integer()):
            return float(value)
        kind = "a whole number" if whole else "a number"
        self.wrong(key, f"{value!r} is not {kind}{f' from {low:g} on' if math.isfinite(low) else ''}.")
        return None

    def pair(self, key: str) -> tuple[float, float] | None:
        """Two numbers; None where they are missing or wrong."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
            return float(value[0]), float(value[1])
        self.wrong(key, f"{value!r} is wrong: it should be two numbers, as in [98.5, 9.8].")
        return None

    def section(self, key: str) -> Fields | None:
        """A mapping inside this one; None where it is missing or something else."""
        value = self.values.get(key)
        if isinstance(value, Mapping):
            return Fields(self.source, (*self.path, key), value, self.mistakes)
        return None


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
