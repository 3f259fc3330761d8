"""Reading a results folder. A run that can't be read is named, and counts as missing; nothing is guessed."""

from __future__ import annotations

import csv
import errno
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bnbench.base.errors import ConfigError, PluginError, ResultsError
from bnbench.base.files import read_csv, read_text, to_number
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts, task_facts
from bnbench.results.checks import Plan, PlannedCell, check_run
from bnbench.results.condensed import is_condensed, load_condensed
from bnbench.results.contents import Cell, EarlierLook, StudyResults
from bnbench.results.environment import trained_under
from bnbench.results.files import ENVIRONMENT, HISTORY, PLAN, RUN, RUNS, SCHEMA_VERSION, STEPS, STUDY
from bnbench.results.placing import leftovers
from bnbench.results.samples import SAMPLES, read_samples
from bnbench.study import Margin, Target, read_yaml
from bnbench.study.records import HistoryRow, RunRecord, TestSamples

#: So many folders are named in a message.
_NAMED = 6
#: So often a run is read while another process writes it again.
_TRIES = 20
_RERUN = "run `bnbench compare` with the same study again: finished runs are kept."
_RECORD = TypeAdapter(RunRecord)
#: What reading a damaged file can raise.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    csv.Error,
)


class PlanDamagedError(ResultsError):
    """plan.json is there, and is no plan."""


def load_folder(folder: Path) -> StudyResults:
    """Everything that the folder holds of its study. Raises ResultsError where there is no readable plan.

    Without a plan, what its summary says (see `condensed.py`).
    """
    if not os.path.lexists(folder / PLAN) and is_condensed(folder):
        return load_condensed(folder)
    try:
        values = read_plan(folder)
        task = _read_task(folder, values.get("task"))  # declares its metrics, which the plan names
        plan = Plan.model_validate(values)
    except ValidationError as error:
        raise PlanDamagedError(f"{folder / PLAN}: damaged: {_first(error)}.", fix=_RERUN) from None
    warnings: list[str] = []
    cells = tuple(_load_cell(folder, cell, warnings) for cell in plan.cells)
    targets = tuple(Target(t.metric, to_number(t.value), t.match_baseline) for t in plan.targets)
    margin = Margin(plan.margin.metric, plan.margin.value) if plan.margin else None
    study = _optional(folder / STUDY, _read_study, warnings)
    environment = (
        _optional(folder / ENVIRONMENT, json.loads, warnings) if (folder / ENVIRONMENT).exists() else {}
    )
    told = trained_under(record for cell in cells for record in cell.records)
    return StudyResults(
        plan.name,
        plan.baseline,
        targets,
        cells,
        study,
        told or environment,
        tuple(warnings),
        primary=plan.primary,
        margin=margin,
        looks=tuple(plan.looks),
        earlier=tuple(
            EarlierLook(e.seeds, tuple(e.looks), e.primary, e.margin, e.baseline, tuple(e.family))
            for e in plan.earlier
        ),
        metrics=tuple(plan.metrics),
        task=task,
        checks=plan.checks,
        samples=partial(load_samples, folder),
    )


def _read_task(folder: Path, values: Any) -> TaskFacts:
    """What the plan says of its task; the first task where it says nothing. Raises ResultsError."""
    if values is None:
        return IMAGE_CLASSIFICATION
    try:
        return task_facts(values)
    except PluginError as error:
        raise ResultsError(
            f"{folder / PLAN}: {error.what}", error.why, "read it in a process of its own."
        ) from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise PlanDamagedError(f"{folder / PLAN}: damaged: task: {error}.", fix=_RERUN) from None


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a folder. Raises ResultsError where there is none, or one from a newer bnbench."""
    path = folder / PLAN
    try:
        values = json.loads(read_text(path))
        version = values["schema_version"]
    except (FileNotFoundError, NotADirectoryError):
        raise _no_results(folder) from None
    except OSError as error:
        what = f"{path}: can't be read: {error.strerror}."
        if error.errno in (
            errno.EINVAL,
            errno.ELOOP,
        ):  # a pipe, or a link to itself: the next plan takes its place
            raise PlanDamagedError(what, fix=_RERUN) from None
        word = "move the folder of that name away" if error.errno == errno.EISDIR else f"chmod u+r {path}"
        raise ResultsError(what, fix=word) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PlanDamagedError(f"{path}: damaged: it is no JSON with a schema_version.", fix=_RERUN) from None
    if not isinstance(version, int) or version < 1:
        raise PlanDamagedError(f"{path}: damaged: schema_version is {version!r}.", fix=_RERUN)
    if version > SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema version {version}, this bnbench knows up to {SCHEMA_VERSION}.",
            "A newer bnbench made this folder. Nothing in it was touched.",
            "upgrade bnbench, or name another folder with --output.",
        )
    return dict(values)


def _no_results(folder: Path) -> ResultsError:
    """There is no plan; where the results are instead, if they are near."""
    inner = sorted(path.parent for path in folder.glob(f"*/{PLAN}"))
    if inner:
        many = len(inner) > _NAMED
        names = ", ".join(path.name for path in inner[:_NAMED]) + (", ..." if many else "")
        words = f"{shlex.quote(str(folder))}/*/" if many else shlex.join(map(str, inner))
        what = f"{folder}: holds no results itself, but {len(inner)} results folder{'s' * (len(inner) > 1)}: {names}."
        return ResultsError(what, fix=f"bnbench report {words}")
    outer = next((path for path in folder.absolute().parents if (path / PLAN).is_file()), None)
    return ResultsError(
        f"{folder}: no results of bnbench here ({PLAN} is missing).",
        fix=f"bnbench report {shlex.quote(os.path.relpath(outer))}"
        if outer
        else "name the folder that `bnbench compare` wrote, such as results/quickstart.",
    )


def is_cut(path: Path) -> bool:
    """Whether it is a plan of ours that was cut short (a power loss, a full disk): empty, or no JSON any more."""
    try:
        text = read_text(path).strip()
    except (OSError, ValueError):
        return False
    if not text:
        return True
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return text.startswith('{\n "schema_version"')
    except RecursionError:
        return False
    return False


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    detail = error.errors()[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where}: {detail['msg']}" if where else detail["msg"]


def _load_cell(folder: Path, cell: PlannedCell, warnings: list[str]) -> Cell:
    found = Cell(cell.variant, cell.setting, cell.cell, tuple(cell.seeds))
    return replace(found, records=tuple(load_runs(folder, found, warnings)))


def run_folder(folder: Path, variant: str, cell: str, seed: int) -> Path:
    """Where a run lies in the results folder."""
    return folder / RUNS / f"{variant}-{cell}" / f"seed-{seed}"


def load_runs(results: Path, cell: Cell, warnings: list[str]) -> Iterator[RunRecord]:
    """The records of a cell that are there, also those that a kill left beside their places."""
    beside = leftovers(run_folder(results, cell.variant, cell.cell, 0).parent)
    for seed in cell.seeds:
        if record := load_run(results, cell, seed, warnings, beside):
            yield record


def load_run(
    results: Path,
    cell: Cell,
    seed: int,
    warnings: list[str],
    beside: Mapping[str, Path] = MappingProxyType({}),
) -> RunRecord | None:
    """The record of one run; None where it is missing or, with a warning, where it can't be believed.

    beside: where runs lie that are not in their places.
    """
    place = run_folder(results, cell.variant, cell.cell, seed)
    folder = place if os.path.lexists(place) else beside.get(place.name)
    if folder is None:
        return None
    for _ in range(_TRIES):
        told: list[str] = []
        with kept_open(folder) as before:
            record = _load_record(folder, cell, seed, told)
            if before == identity_of(folder):
                warnings += told
                return record
        folder = place  # another process wrote the run again in between
    warnings.append(f"{place}: left out, as another process kept writing it while it was read.")
    return None


@contextmanager
def kept_open(folder: Path) -> Iterator[tuple[int, int] | None]:
    """Its identity, which no other folder gets inside the block: a number is used again only once nobody holds it."""
    try:
        number = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:  # it is gone, no folder, or the system opens none (Windows)
        yield identity_of(folder)
        return
    try:
        state = os.fstat(number)
        yield state.st_dev, state.st_ino
    finally:
        os.close(number)


def identity_of(folder: Path) -> tuple[int, int] | None:
    """Which folder of the file system it is now; None where there is none."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _load_record(folder: Path, cell: Cell, seed: int, warnings: list[str]) -> RunRecord | None:
    try:
        values = json.loads(read_text(folder / RUN))
        version = values.pop("schema_version")
        if version not in range(1, SCHEMA_VERSION + 1):
            raise ValueError(f"schema version {version}, this bnbench knows up to {SCHEMA_VERSION}")
        if values["cell"] != cell.cell:
            raise ValueError(f"it is a run of other settings ({values['cell']}, not {cell.cell})")
        for part in ("final", "best"):
            values[part] = {name: to_number(value) for name, value in values[part].items()}
        values["history"] = list(_read_history(folder / HISTORY))
        values["step_losses"] = _read_steps(folder / STEPS)
        record = _RECORD.validate_python(values)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        warnings.append(f"{folder}: left out, as {where} can't be read: {detail['msg']}.")
        return None
    except _UNREADABLE as error:
        warnings.append(f"{folder}: left out, as it can't be read: {type(error).__name__}: {error}.")
        return None
    try:
        check_run(record, cell.variant, cell.setting, seed)
    except ValueError as error:
        warnings.append(f"{folder}: left out, as it can't be right: {error}.")
        return None
    return record


def read_label(folder: Path) -> tuple[str, Mapping[str, Any]] | None:
    """Under which variant and setting a run lies there; None where that can't be read."""
    try:
        values = json.loads(read_text(folder / RUN))
        variant, setting = values["variant"], values["setting"]
    except _UNREADABLE:
        return None
    return (variant, setting) if isinstance(variant, str) and isinstance(setting, dict) else None


def load_samples(results: Path, cell: Cell, run: RunRecord) -> TestSamples | None:
    """The run's answers on the test samples; None where they were left behind. Raises ValueError and OSError."""
    place = run_folder(results, cell.variant, cell.cell, run.seed)
    folder = place if os.path.lexists(place) else leftovers(place.parent).get(place.name, place)
    return read_samples(folder / SAMPLES, run)


def _read_history(path: Path) -> Iterator[HistoryRow]:
    for row in read_csv(path):
        if None in row or None in row.values():
            raise ValueError(f"{path.name} has a row of the wrong length")
        loss = row.pop("batch_loss")
        yield HistoryRow(
            step=int(row.pop("step")),
            epoch=float(row.pop("epoch")),
            train_seconds=float(row.pop("train_seconds")),
            batch_loss=float(loss) if loss else None,
            metrics={name: to_number(value) for name, value in row.items()},
        )


def _read_steps(path: Path) -> tuple[float, ...]:
    """The objective of every step; empty where the file was left behind (it is large, and no table needs it)."""
    if not path.exists():
        return ()
    header, *lines = read_text(path).splitlines()
    if not lines:
        return ()
    column = header.split(",").index("batch_loss")
    try:
        return tuple(to_number(line.split(",")[column]) for line in lines)
    except IndexError:
        raise ValueError(f"{path.name} has a row of the wrong length") from None


def _read_study(text: str) -> Any:
    return read_yaml(text, STUDY).data


def _optional(path: Path, parse: Callable[[str], Any], warnings: list[str]) -> Mapping[str, Any]:
    """A file that no table needs: what is wrong with it is a warning."""
    try:
        values = parse(read_text(path))
        if not isinstance(values, dict):
            raise ValueError("it holds no keys and values")
        return values
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        warnings.append(f"{path}: can't be read: {error}.")
        return {}
