"""Writing a results folder: first the plan, then every run as it ends."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bnbench.base.errors import ResultsError
from bnbench.base.files import WRITING, disk_errors, free_name, to_json, write_file, write_whole
from bnbench.results.beside import FinishedRun, copy_files
from bnbench.results.checks import Plan
from bnbench.results.contents import Cell, StudyResults
from bnbench.results.environment import trained_under
from bnbench.results.files import (
    ENVIRONMENT,
    PLAN,
    RUN,
    RUNS,
    SCHEMA_VERSION,
    STATES,
    STUDY,
)
from bnbench.results.history import earlier_looks
from bnbench.results.placing import aside_of, put, recover
from bnbench.results.planning import plan_of
from bnbench.results.question import differences
from bnbench.results.reader import PlanDamagedError, is_cut, load_folder, read_plan
from bnbench.results.run_files import run_files, run_json
from bnbench.results.run_reader import (
    identity_of,
    kept_open,
    load_probes,
    load_run,
    load_runs,
    load_samples,
    run_folder,
    run_place,
)
from bnbench.results.sheets import SHEETS, Sheet, kept_sheets
from bnbench.results.states import FolderStates
from bnbench.study import Study, resolved, to_yaml
from bnbench.study.plan import RunSpec
from bnbench.study.records import Extras, RunRecord

#: The folder of a cell's runs: its variant and its identity.
_RUNS_OF = re.compile(r".+-[0-9a-f]{12}")
#: How the names of files start that are written when a folder is opened.
_OPENED = (f".{PLAN}.", f".{STUDY}.")


class ResultsFolder:
    """One study's folder on disk. Every method raises ResultsError where the disk or its content won't do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_for(self, study: Study, runs: Sequence[RunSpec]) -> None:
        """Raises ResultsError where the folder is someone else's, or answers another question. Touches nothing."""
        with disk_errors(self.path):
            if not os.path.lexists(self.path / PLAN):
                self.check_unplanned()
                return
            if os.path.lexists(runs_there := self.path / RUNS) and not runs_there.is_dir():
                raise ResultsError(
                    f"{runs_there}: it is not a folder, so no run can be kept there.",
                    "Nothing in the folder was touched.",
                    f"move it away, or --output {free_name(self.path)}",
                )
        try:
            old = Plan.model_validate(read_plan(self.path)).model_dump()
        except (PlanDamagedError, ValidationError) as error:
            if (self.path / RUNS).is_dir() or is_cut(self.path / PLAN):
                return  # it is written again
            fix = f"remove that file if it is of no use, or --output {free_name(self.path)}"
            message = getattr(error, "what", f"{self.path / PLAN}: it is not a plan of bnbench.")
            raise ResultsError(message, "Nothing in the folder was touched.", fix) from None
        answered = {cell["cell"] for cell in old["cells"] if self._is_answered(cell)}
        lines = differences(old, plan_of(study, runs), answered)
        if lines:
            raise ResultsError(
                f"{self.path} holds the answer to another question. What differs:\n"
                + "\n".join(f"  {line}" for line in lines),
                "A results folder holds one answer. Nothing in this one was touched.",
                f"--output {free_name(self.path)}",
            )

    def _is_answered(self, planned: Mapping[str, Any]) -> bool:
        cell = Cell(planned["variant"], planned["setting"], planned["cell"], tuple(planned["seeds"]))
        return any(record.outcome != "crashed" for record in load_runs(self.path, cell, []))

    def check_unplanned(self) -> None:
        """The folder is empty, or holds only bnbench's own files: copied runs, files that a kill left half-written."""
        if not self.path.is_dir():
            if os.path.lexists(self.path) and not self.path.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", str(self.path))
            return
        others = [name for name in sorted(os.listdir(self.path)) if not self._is_known(name)]
        if others:
            raise ResultsError(
                f"{self.path}: the folder is not empty and holds no results of bnbench (but {others[0]}).",
                "Nothing in it was touched.",
                "--output with another folder, or empty this one.",
            )

    def _is_known(self, name: str) -> bool:
        if name == RUNS:
            names = os.listdir(self.path / RUNS) if (self.path / RUNS).is_dir() else ["?"]
            return all(_RUNS_OF.fullmatch(item) for item in names)
        return name == STATES or (name.startswith(_OPENED) and name.endswith(WRITING))

    def open_for(
        self, study: Study, runs: Sequence[RunSpec], beside: Sequence[FinishedRun] = ()
    ) -> tuple[FinishedRun, ...]:
        """Make the folder and write its plan, before any training. Returns the finished runs copied into it.

        beside: finished runs of other folders; the results that those folders showed count as seen here, too.
        The plan makes it a results folder, in one step: whatever comes after it may be missing.
        """
        self.check_for(study, runs)
        self.recover()
        self.clean()
        self.write_plan(plan_of(study, runs), [finished.results for finished in beside])
        self.write(STUDY, to_yaml(resolved(study, self.path)))
        return tuple(finished for finished in beside if self._take(finished))

    def clean(self) -> None:
        """Remove what a kill left of files that are written when the folder is opened."""
        with disk_errors(self.path):
            for path in self.path.glob(f".*{WRITING}") if self.path.is_dir() else ():
                path.unlink(missing_ok=True)

    def write_plan(self, plan: Mapping[str, Any], sources: Sequence[Path]) -> None:
        """Write the plan, with the results that this folder and others showed earlier, under another design."""
        looks = [
            look for source in dict.fromkeys([self.path, *sources]) for look in earlier_looks(source, plan)
        ]
        earlier = [look for index, look in enumerate(looks) if look not in looks[:index]]
        self.write(PLAN, to_json({"schema_version": SCHEMA_VERSION, **plan, "earlier": earlier}))

    def recover(self) -> None:
        """Bring runs that a kill left beside their places there, and clean up what it left half-written."""
        if os.path.lexists(self.path / PLAN):
            recover(self.path / RUNS)

    def has(self, run: RunSpec) -> bool:
        """Whether this very run is there with a result (a crashed run is none: it is tried again)."""
        return self.finished(run) is not None

    def record(self, run: RunSpec) -> RunRecord | None:
        """The record of this very run, where it is there, also of one that crashed."""
        cell = Cell(run.variant, run.setting, run.cell, (run.seed,))
        return load_run(self.path, cell, run.seed, [])

    def version_of(self, run: RunSpec) -> tuple[int, int] | None:
        """Changes when this run is written again; None where it is not there."""
        try:
            state = (self._run_folder(run) / RUN).stat()
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns  # a number may be used again

    def finished(self, run: RunSpec) -> RunRecord | None:
        """The record of this very run, where it is there with a result."""
        cell = Cell(run.variant, run.setting, run.cell, (run.seed,))
        record = self.record(run)
        if record is None or record.outcome == "crashed":
            return None
        try:
            load_samples(self.path, cell, record)
            load_probes(self.path, cell, record)
        except (ValueError, OSError):  # its answers are damaged; left behind they may be
            return None
        return record

    def save(
        self, run: RunSpec, record: RunRecord, weights: Mapping[str, Any] | None, extras: Extras | None = None
    ) -> None:
        """Write a run's folder, whole or not at all; a folder of the same run is replaced.

        Then its states go, but for a run that crashed: the next command goes on from them.
        """
        self.save_files(run, run_files(record, weights, extras or Extras()))
        if record.outcome != "crashed":
            FolderStates.of(self.path).drop(run)

    def save_files(self, run: RunSpec, content: Mapping[str, bytes]) -> None:
        """Write a run's folder from the contents of its files, run.json last, whole or not at all."""
        target = self._run_folder(run)
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_run(target, content)
            except FileNotFoundError:  # another process took the half-written folder for a leftover
                _write_run(target, content)

    def _take(self, finished: FinishedRun) -> bool:
        """Copy a finished run of another folder here, under the names that it has here; False where it is gone."""
        return self.take(finished.folder, finished.state, finished.renamed())

    def take(self, folder: Path, state: tuple[int, int] | None, record: RunRecord) -> bool:
        """Copy a run that lies in another folder here, whole or not at all; False where it is gone by now.

        state: which folder it was when its record was read.
        """
        target = run_folder(self.path, record.variant, record.cell, record.seed)
        content = to_json(run_json(record)).encode("utf-8")
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with aside_of(target) as aside, kept_open(folder) as before:
                try:
                    copy_files(folder, aside)
                except FileNotFoundError:
                    return False
                if before is None or before != state or before != identity_of(folder):
                    return False
                write_file(aside / RUN, content)
                put(aside, target)
        return True

    def write(self, name: str, text: str) -> None:
        """Write one file of the folder, whole or not at all; one with that very content stays as it is."""
        if not _holds(self.path / name, text):
            write_whole(self.path / name, text)

    def write_environment(self, results: StudyResults) -> None:
        """Write down under which circumstances every run was trained, where the runs know that."""
        circumstances = trained_under(record for cell in results.cells for record in cell.records)
        if circumstances:
            self.write(ENVIRONMENT, to_json(circumstances))

    def write_sheets(self, sheets: Mapping[str, Sheet]) -> None:
        """Write the sheets that the report shows, by the names of their files; those of before go."""
        with disk_errors(self.path):
            for path in kept_sheets(self.path):
                if path.name not in sheets:
                    path.unlink(missing_ok=True)
        for name, sheet in sheets.items():
            write_whole(self.path / SHEETS / name, sheet.png)

    def load(self) -> StudyResults:
        """Read everything back (see `reader.py`)."""
        return load_folder(self.path)

    def other_runs(self) -> int:
        """The number of runs of other settings or seeds in the folder: kept, but in no table."""
        if not os.path.lexists(self.path / PLAN):  # it keeps its summary alone
            return 0
        places = {run_place(*key) for key in self.planned()}
        return sum(
            f"{RUNS}/{cell}/{name}" not in places and (self.path / RUNS / cell / name / RUN).exists()
            for cell in _names(self.path / RUNS)
            for name in _names(self.path / RUNS / cell)
            if name.startswith("seed-")
        )

    def planned(self) -> set[tuple[str, str, int]]:
        """The variant, cell and seed of every run in its plan. Raises ResultsError where there is none."""
        return {
            (cell["variant"], cell["cell"], seed)
            for cell in read_plan(self.path)["cells"]
            for seed in cell["seeds"]
        }

    def _run_folder(self, run: RunSpec) -> Path:
        return run_folder(self.path, run.variant, run.cell, run.seed)


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _holds(path: Path, text: str) -> bool:
    """Whether it is a plain file with that content."""
    try:
        return not path.is_symlink() and path.is_file() and path.read_bytes() == text.encode("utf-8")
    except OSError:
        return False


def _write_run(target: Path, content: Mapping[str, bytes]) -> None:
    with aside_of(target) as aside:
        for name, data in content.items():
            write_file(aside / name, data)
        put(aside, target)
