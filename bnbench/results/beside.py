"""Finished runs in the folders beside a study's folder: a run of the same identity is not trained a second time.

It is copied, as links to the same files where the file system has them: no file of a run is ever changed in place.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bnbench.base.files import write_file
from bnbench.results.contents import Cell
from bnbench.results.files import CHECKPOINT, HISTORY, PLAN, RUNS, STEPS
from bnbench.results.probes import PROBES
from bnbench.results.run_reader import identity_of, load_probes, load_run, load_samples, read_label
from bnbench.results.samples import SAMPLES
from bnbench.results.sheets import sheet_file
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of another folder that is the planned one but for the names it has there.

    state: which folder it was when it was read; another one may have taken its place since.
    """

    results: Path
    folder: Path
    state: tuple[int, int] | None
    run: RunSpec
    record: RunRecord

    def renamed(self) -> RunRecord:
        """Its record, under the names that it has in the planned study."""
        return replace(self.record, variant=self.run.variant, setting=self.run.setting)


class Beside:
    """The results folders that lie beside one of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(
        self, runs: Iterable[RunSpec], current: Callable[[RunSpec, RunRecord], bool]
    ) -> Iterator[FinishedRun]:
        """For each run the best one that is there, if any: one that is current, before any other."""
        for run in runs:
            finished_runs = list(self._finished(run))
            if finished_runs:
                yield next((other for other in finished_runs if current(run, other.record)), finished_runs[0])

    def _finished(self, run: RunSpec) -> Iterator[FinishedRun]:
        for results, parent in self._by_cell.get(run.cell, ()):
            folder = parent / f"seed-{run.seed}"
            label = read_label(folder)
            if label is None:
                continue
            variant, setting = label
            if parent.name != f"{variant}-{run.cell}":
                continue
            cell = Cell(variant, setting, run.cell, (run.seed,))
            state = identity_of(folder)
            record = load_run(results, cell, run.seed, [])
            if record is None or record.outcome == "crashed":
                continue
            try:
                load_samples(results, cell, record)
                load_probes(results, cell, record)
            except (ValueError, OSError):
                continue
            yield FinishedRun(results, folder, state, run, record)

    @cached_property
    def _by_cell(self) -> Mapping[str, Sequence[tuple[Path, Path]]]:
        """By the identity of a cell, the folders that hold runs of it, those of plain studies first."""
        folders: dict[str, list[tuple[Path, Path]]] = defaultdict(list)
        for results in self._others():
            try:
                names = sorted(os.listdir(results / RUNS))
            except OSError:
                continue
            for name in names:
                folders[name.rpartition("-")[2]].append((results, results / RUNS / name))
        return folders

    def _others(self) -> list[Path]:
        parent = Path(os.path.abspath(self._folder)).parent
        try:
            names = sorted(os.listdir(parent), key=lambda name: ("+" in name, name))
        except OSError:
            return []
        here = self._folder.parent
        return [here / name for name in names if name != self._folder.name and (here / name / PLAN).is_file()]


def copy_files(source: Path, target: Path) -> None:
    """The files of a run beside its run.json. Raises OSError."""
    sheets = sorted(path.name for path in source.glob(sheet_file("*")))
    for name in (HISTORY, STEPS, CHECKPOINT, SAMPLES, PROBES, sheet_file(), *sheets):
        file = source / name
        if file.is_symlink() or not file.is_file():
            continue
        try:
            os.link(file, target / name)
        except OSError as error:  # another disk, or a file system without links
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
                raise
            write_file(target / name, file.read_bytes())
