"""Every mistake that bnbench reports, and the exit code of each.

BnbenchError            1   base: what is wrong, why, and the fix to paste
├── ConfigError         1   a study has mistakes (all of them at once)
├── UnknownNameError    1   no such model, data set, normalizer, ...: the nearest names
├── DataError           1   a data set is missing, unreadable or unusable
├── DeviceError         1   the device that was asked for is not there
├── PluginError         1   a plugin does not import, or takes a name that is taken
├── ResultsError        1   a results folder can't be read or written
├── LayerError          1   a layer to verify can't be found, imported or built
├── GateError           2   a --fail-if that can't be read, or names what the study does not have
└── UsageError          2   a way to start bnbench that can't be

Exit codes of the command line: 0 done, 1 nothing usable came out, 2 usage (Typer's own),
3 some runs crashed, 4 a gate says so (a --fail-if, or a check of `verify` that failed: the answer is
there, and it is no), 5 not everything is trained (the time limit, a shard), 130 interrupted. Several studies have the
code that they would have as one: 130 before 1 (in none of them anything usable, or one of the folders can't be read)
before 4 before 3 before 5.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EXIT_DONE = 0
EXIT_NOTHING_USABLE = 1
EXIT_USAGE = 2
EXIT_SOME_RUNS_CRASHED = 3
EXIT_GATE = 4
EXIT_NOT_EVERYTHING = 5
EXIT_INTERRUPTED = 130


class BnbenchError(Exception):
    """A user's mistake or an environment's fault, in one message.

    what: the fault with its value and place. why: the reason, one sentence. fix: what to do.
    """

    exit_code = EXIT_NOTHING_USABLE

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        parts = [what, why, f"Fix: {fix}" if fix else ""]
        super().__init__("\n".join(part for part in parts if part))


class DataError(BnbenchError):
    """A data set is missing, unreadable or unusable."""


class DeviceError(BnbenchError):
    """The device that was asked for is not there."""


class PluginError(BnbenchError):
    """A plugin does not import, or takes a name that is taken."""


class ResultsError(BnbenchError):
    """A results folder can't be read or written."""


class LayerError(BnbenchError):
    """A layer to verify can't be found, imported or built."""


class GateError(BnbenchError):
    """A --fail-if that can't be read, or names what the study does not have."""

    exit_code = EXIT_USAGE


class UsageError(BnbenchError):
    """A way to start bnbench that can't be."""

    exit_code = EXIT_USAGE


class UnknownNameError(BnbenchError):
    """A name that no registry knows, with the nearest ones that it does know."""

    def __init__(self, kind: str, value: str, known: Iterable[str]) -> None:
        self.kind, self.value, self.known = kind, value, tuple(known)
        super().__init__(unknown_name(kind, value, self.known))


@dataclass(frozen=True)
class Mistake:
    """One fault in a study. place: "file.yaml:14" or "command line"."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(BnbenchError):
    """All the mistakes of a study."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def nearest(value: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known name most like `value`, or None where none is similar (1: the same letters)."""
    by_lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=likeness)
    return by_lower[matches[0]] if matches else None


def unknown_name(kind: str, value: str, known: Iterable[str]) -> str:
    """One sentence: the unknown name, the nearest known one, and the whole list."""
    known = sorted(known)
    guess = nearest(value, known)
    hint = f' Did you mean "{guess}"?' if guess else ""
    return f'unknown {kind} "{value}".{hint} Known: {", ".join(known) or "none"}.'
