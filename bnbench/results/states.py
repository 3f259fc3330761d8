"""States of runs that are under way, in the hidden folder `.states` of their results folder.

    .states/<variant>-<cell>/seed-<n>/step-<step>.<checksum>.safetensors

A file is whole or not there: it is written aside, down to the disk, and then takes its name. The checksum in its name
is of its content, its run and its step, so a state that was cut, changed or copied from another run is not used. Of
each run the last two are kept. They go when the run is on disk, and when the plan has no such run any more.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bnbench.base.errors import ResultsError
from bnbench.base.files import WRITING, check_regular, write_file, written_aside
from bnbench.results.files import STATES
from bnbench.study.plan import RunSpec

#: So many states of a run are kept: where the last one is damaged, the one before is used.
KEPT = 2
_FILE = re.compile(r"step-(?P<step>\d+)\.(?P<checksum>[0-9a-f]{32})\.safetensors")


class _Kept(NamedTuple):
    """A file of a state, by its name alone."""

    step: int
    checksum: str
    path: Path


@dataclass(frozen=True)
class FolderStates:
    """The states of a results folder. It travels to worker processes: it is a path and nothing else.

    results: the results folder, absolute, since a worker may have another working directory.
    """

    results: Path

    @classmethod
    def of(cls, results: Path) -> FolderStates:
        """Those of that results folder."""
        return cls(Path(os.path.abspath(results)))

    def keep(self, run: RunSpec, step: int, content: bytes) -> None:
        """Keep one more, whole or not at all. Raises ResultsError; what was kept before stays then.

        Of the others the newest before it stays. Later ones go: the run went on from an earlier step.
        """
        folder = self._folder(run)
        target = folder / f"step-{step}.{_checksum(run, step, content)}.safetensors"
        try:
            try:
                _write(target, content)
            except FileNotFoundError:  # another process removed the folder in between
                _write(target, content)
        except OSError as error:
            raise self._unsaved(error) from None
        kept = _kept(folder)
        earlier = sorted((one for one in kept if one.step < step), reverse=True)
        stay = {target, *(one.path for one in earlier[: KEPT - 1])}
        for path in [one.path for one in kept if one.path not in stay] + _half_written(folder):
            with suppress(OSError):  # one state too many does no harm
                path.unlink()

    def steps(self, run: RunSpec) -> tuple[int, ...]:
        """The steps of the whole states, the newest first. A damaged one is not there."""
        found = sorted(_kept(self._folder(run)), reverse=True)
        return tuple(dict.fromkeys(one.step for one in found if _content(one, run) is not None))

    def read(self, run: RunSpec, step: int) -> bytes:
        """The content of one of them. Raises ResultsError."""
        folder = self._folder(run)
        for one in _kept(folder):
            if one.step == step and (content := _content(one, run)) is not None:
                return content
        raise ResultsError(f"{folder}: no whole state of step {step} here.")

    def drop(self, run: RunSpec) -> None:
        """Remove those of a run: it has ended. What can't be removed does no harm: its run is on disk."""
        self._remove(self._folder(run))

    def drop_others(self, runs: Iterable[RunSpec]) -> None:
        """Remove every state but those of these runs."""
        if not os.path.lexists(self.results / STATES):
            return
        left = {self._folder(run) for run in runs}
        for folder in self._all():
            if folder not in left:
                self._remove(folder)
        self._remove_empty(self.results / STATES)

    def _unsaved(self, error: OSError) -> ResultsError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return ResultsError(
            f"{self.results / STATES}: no state was saved: {error.strerror or error}.",
            "The run goes on; a kill would lose what it did since its last state.",
            "free some space there." if full else "see whether that folder may be written to.",
        )

    def _remove(self, folder: Path) -> None:
        if not os.path.lexists(folder):
            return
        if folder.is_symlink() or not folder.is_dir():  # of someone else
            with suppress(OSError):
                folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        self._remove_empty(folder.parent)
        self._remove_empty(self.results / STATES)

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):
            folder.rmdir()

    def _all(self) -> Iterator[Path]:
        for parent in _listed(self.results / STATES):
            yield from _listed(parent)
            self._remove_empty(parent)

    def _folder(self, run: RunSpec) -> Path:
        return self.results / STATES / f"{run.variant}-{run.cell}" / f"seed-{run.seed}"


def kept_steps(results: Path) -> dict[tuple[str, int], int]:
    """The last step that is kept of each run, by the folder of its cell and its seed; by the files' names alone."""
    steps = {}
    for cell in _listed(results / STATES):
        for run in _listed(cell):
            seed = run.name.removeprefix("seed-")
            if seed.isdecimal() and (kept := _kept(run)):
                steps[cell.name, int(seed)] = max(one.step for one in kept)
    return steps


def _write(target: Path, content: bytes) -> None:
    with written_aside(target) as aside:
        write_file(aside, content)


def _checksum(run: RunSpec, step: int, content: bytes) -> str:
    place = f"{run.variant}-{run.cell} {run.seed} {step}\n"
    digest = hashlib.blake2b(place.encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(content)
    return digest.hexdigest()


def _kept(folder: Path) -> list[_Kept]:
    """Whatever has the name of a state."""
    matches = ((_FILE.fullmatch(path.name), path) for path in _listed(folder))
    return [_Kept(int(match["step"]), match["checksum"], path) for match, path in matches if match]


def _content(one: _Kept, run: RunSpec) -> bytes | None:
    """None where it is not what was written."""
    try:
        check_regular(one.path)
        content = one.path.read_bytes()
    except OSError:
        return None
    return content if _checksum(run, one.step, content) == one.checksum else None


def _half_written(folder: Path) -> list[Path]:
    """What kills left: a run is trained by one process at a time, and that one is not writing now."""
    return [path for path in _listed(folder) if path.name.endswith(WRITING)]


def _listed(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []
