"""Which process trains which run of a results folder, where several are at it.

Each process keeps a file with its name and a beat that it renews. A claim on a run is a file that only one process can
make; it holds the owner's word. What a dead owner claimed is free: on the same machine the system knows at once that
the process is gone; on another one, or where it is stopped, its beat no longer changes. Only the observer's own
monotonic clock counts, as clocks of machines differ and step back, and no lock of the file system is needed, as some
network file systems have none.

A claim saves work and guards nothing: a run that two processes train all the same has one result.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bnbench.base.errors import ResultsError
from bnbench.base.files import (
    WRITING,
    disk_errors,
    hash_of,
    read_text,
    take_away,
    to_json,
    write_first,
    write_whole,
)
from bnbench.base.owner import Owner, owner_of, this_process
from bnbench.study.plan import RunSpec

#: The folder of owners and claims within a results folder. It is gone when nobody trains.
CLAIMS = ".claims"
_OWNER, _CLAIM = ".owner", ".claim"
#: Seconds between two beats, and without one after which an owner counts as dead.
BEAT_SECONDS, STALE_SECONDS = 10.0, 60.0
#: So often a claim is tried again that others get in the way of.
_TRIES = 20

RunKey = tuple[str, int]


@dataclass(frozen=True)
class Present:
    """A process that is at the folder. beat: changes while it lives. plan: which runs of the study it is asked for.

    claims: the runs that it trains, by their files. silent: seconds without a new beat.
    """

    owner: Owner
    beat: int
    plan: str = ""
    claims: tuple[str, ...] = ()
    silent: float = 0.0


@dataclass
class _Seen:
    """The last beat that was seen, and when that was new, by the observer's clock."""

    beat: int
    since: float


@dataclass
class Claims:
    """The claims of this process on runs of one results folder, and those of others.

    Methods raise ResultsError where the folder can't be written.
    """

    results: Path
    beat_seconds: float = BEAT_SECONDS
    stale_seconds: float = STALE_SECONDS
    owner: Owner = field(default_factory=this_process)
    plan: str = ""

    def __post_init__(self) -> None:
        self._folder = self.results / CLAIMS
        self._beat, self._mine = 0, dict[str, RunKey]()
        self._seen: dict[str, _Seen] = {}
        self._lock, self._left = threading.Lock(), threading.Event()

    @contextmanager
    def present(self, plan: str = "") -> Iterator[None]:
        """Inside, others see that this process is at the folder; at the end its claims are free.

        plan: stands for the runs that it is asked for. What dead processes left behind is removed first.
        """
        self.plan = plan
        self.sweep()
        self._left.clear()
        self.renew()
        beating = threading.Thread(target=self._keep_beating, name="bnbench heartbeat", daemon=True)
        beating.start()
        try:
            yield
        finally:
            self._left.set()
            beating.join()
            self._leave()

    def take(self, runs: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
        """Claim these runs; those that are this process's now. Another one's stale claim is taken over."""
        return tuple(run for run in runs if self._takes(run))

    def release(self, runs: Iterable[RunSpec]) -> None:
        """Give up the claims on these runs."""
        for run in runs:
            name = _name_of(run)
            if self._mine.pop(name, None) is not None and self._holder(name) == self.owner.word:
                with suppress(OSError):
                    (self._folder / name).unlink()

    def renew(self) -> None:
        """Let the heart beat once: the others' monotonic clocks start again. Raises ResultsError."""
        with self._lock:
            self._beat += 1
            values = {**asdict(self.owner), "beat": self._beat, "plan": self.plan}
            write_whole(self._folder / f"{self.owner.word}{_OWNER}", to_json(values))

    def others(self) -> list[Present]:
        """The other processes that are at the folder and live."""
        held = self._held()
        present = [self._read(word) for word in sorted(self._words()) if word != self.owner.word]
        return [
            Present(one.owner, one.beat, one.plan, tuple(held.get(one.owner.word, ())), self._silent(one))
            for one in present
            if one is not None and not self._is_dead(one)
        ]

    def of_others(self, runs: Iterable[RunSpec]) -> dict[RunKey, Present]:
        """Those of these runs that another live process trains, and which it is."""
        by_claim = {name: other for other in self.others() for name in other.claims}
        return {run.key: by_claim[name] for run in runs if (name := _name_of(run)) in by_claim}

    def sweep(self) -> None:
        """Remove what dead processes left behind, as far as the system lets us."""
        words = self._words()
        live = {self.owner.word, *(other.owner.word for other in self.others())}
        for word, names in self._held().items():
            if word not in live:
                for name in names:
                    self._take_over(name, word)
        for word in words - live:
            with suppress(OSError):
                (self._folder / f"{word}{_OWNER}").unlink()
        if live == {self.owner.word} and not self._mine:
            for name in self._names(WRITING):
                with suppress(OSError):
                    (self._folder / name).unlink()
            with suppress(OSError):
                self._folder.rmdir()

    def _leave(self) -> None:
        for name in list(self._mine):
            if self._holder(name) == self.owner.word:
                with suppress(OSError):
                    (self._folder / name).unlink()
        self._mine.clear()
        with suppress(OSError):
            (self._folder / f"{self.owner.word}{_OWNER}").unlink()
        self.sweep()

    def _keep_beating(self) -> None:
        while not self._left.wait(self.beat_seconds):
            with suppress(ResultsError):  # a full disk: the training says so
                self.renew()

    def _takes(self, run: RunSpec) -> bool:
        name = _name_of(run)
        path = self._folder / name
        for _ in range(_TRIES):
            with disk_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                try:
                    made = write_first(path, self.owner.word)
                except FileNotFoundError:  # another process removed the empty folder
                    continue
            holder = self.owner.word if made else self._holder(name)
            if holder == self.owner.word:
                self._mine[name] = run.key
                return True
            if holder is not None:
                other = self._read(holder)
                if other is not None and not self._is_dead(other):
                    return False
                self._take_over(name, holder)
        return False

    def _take_over(self, name: str, word: str) -> None:
        """Remove a dead owner's claim, and no other: it may have been taken over in between."""
        with suppress(OSError):
            aside = take_away(self._folder / name)
            if aside is None:
                return
            found = _text_of(aside)
            if found not in (word, None):  # a live one's: back to its place
                write_first(self._folder / name, found)
            aside.unlink(missing_ok=True)

    def _holder(self, name: str) -> str | None:
        """The word of a claim's owner; None where there is no claim."""
        return _text_of(self._folder / name)

    def _names(self, ending: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if name.endswith(ending))
        except OSError:
            return []

    def _words(self) -> set[str]:
        return {name.removesuffix(_OWNER) for name in self._names(_OWNER)}

    def _held(self) -> dict[str, list[str]]:
        """The names of the claims by the word of their owner."""
        held: dict[str, list[str]] = {}
        for name in self._names(_CLAIM):
            if (word := self._holder(name)) is not None:
                held.setdefault(word, []).append(name)
        return held

    def _read(self, word: str) -> Present | None:
        """An owner's file; None where it has left, or where the file is damaged."""
        try:
            values: Mapping[str, Any] = json.loads(read_text(self._folder / f"{word}{_OWNER}"))
            return Present(owner_of(values), int(values["beat"]), str(values.get("plan", "")))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _is_dead(self, other: Present) -> bool:
        """Gone, or without a new beat: elsewhere nobody can ask, and here a process may stand still for good."""
        return other.owner.is_dead is True or self._silent(other) >= self.stale_seconds

    def _silent(self, other: Present) -> float:
        """For how many seconds this process has seen the same beat."""
        now, word = time.monotonic(), other.owner.word
        seen = self._seen.get(word)
        if seen is None or seen.beat != other.beat:
            seen = self._seen[word] = _Seen(other.beat, now)
        return now - seen.since


def are_training(results: Path) -> list[Present]:
    """The live processes that train runs of a results folder, for a reader. Writes nothing."""
    if not os.path.lexists(results / CLAIMS):
        return []
    return [other for other in Claims(results).others() if other.claims]


def plan_word(runs: Sequence[RunSpec]) -> str:
    """Stands for the runs that a process is asked for."""
    return hash_of(sorted([run.variant, run.cell, run.seed] for run in runs), 16)


def _name_of(run: RunSpec) -> str:
    return f"{hash_of([run.variant, run.cell, run.seed], 20)}{_CLAIM}"


def _text_of(path: Path) -> str | None:
    """The text of a file; None where there is none, "" where it is damaged."""
    try:
        return read_text(path)
    except OSError:
        return None
    except ValueError:
        return ""
