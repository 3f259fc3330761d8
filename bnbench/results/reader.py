"""Reading a results folder. A run that can't be read is named, and counts as missing; nothing is guessed."""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bnbench.base.errors import ConfigError, ResultsError
from bnbench.base.files import read_text, to_number
from bnbench.results.checks import Plan, PlannedCell
from bnbench.results.condensed import is_condensed, load_condensed
from bnbench.results.contents import Cell, EarlierLook, StudyResults
from bnbench.results.environment import trained_under
from bnbench.results.files import ENVIRONMENT, PLAN, SCHEMA_VERSION, STUDY
from bnbench.results.run_reader import load_probes, load_runs, load_samples
from bnbench.results.sheets import load_sheet
from bnbench.results.task import read_task
from bnbench.study import Margin, Target, read_yaml

#: So many folders are named in a message.
_NAMED = 6
_RERUN = "run `bnbench compare` with the same study again: finished runs are kept."


class PlanDamagedError(ResultsError):
    """plan.json is there, and can't be read as a plan."""


def load_folder(folder: Path) -> StudyResults:
    """Everything that the folder holds of its study. Raises ResultsError where there is no readable plan.

    Without a plan, the content of its summary (see `condensed.py`).
    """
    if not os.path.lexists(folder / PLAN) and is_condensed(folder):
        return load_condensed(folder)
    try:
        values = read_plan(folder)
        # it declares its metrics, which the plan names
        task = read_task(folder / PLAN, values.get("task"), PlanDamagedError, _RERUN)
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
    circumstances = trained_under(record for cell in cells for record in cell.records)
    return StudyResults(
        plan.name,
        plan.baseline,
        targets,
        cells,
        study,
        circumstances or environment,
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
        probes=partial(load_probes, folder),
        sheet=partial(load_sheet, folder),
    )


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a folder. Raises ResultsError where there is none, or one from a newer bnbench."""
    path = folder / PLAN
    try:
        values = json.loads(read_text(path))
        version = values["schema_version"]
    except (FileNotFoundError, NotADirectoryError):
        raise _no_results(folder) from None
    except OSError as error:
        message = f"{path}: can't be read: {error.strerror}."
        if error.errno in (
            errno.EINVAL,
            errno.ELOOP,
        ):  # a pipe, or a link to itself: the next plan takes its place
            raise PlanDamagedError(message, fix=_RERUN) from None
        word = "move the folder of that name away" if error.errno == errno.EISDIR else f"chmod u+r {path}"
        raise ResultsError(message, fix=word) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PlanDamagedError(
            f"{path}: damaged: it is not JSON with a schema_version.", fix=_RERUN
        ) from None
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
    """The error of a folder without a plan; names the folders with results that are near."""
    inner = sorted(path.parent for path in folder.glob(f"*/{PLAN}"))
    if inner:
        many = len(inner) > _NAMED
        names = ", ".join(path.name for path in inner[:_NAMED]) + (", ..." if many else "")
        words = f"{shlex.quote(str(folder))}/*/" if many else shlex.join(map(str, inner))
        folders = f"{len(inner)} results folder{'s' * (len(inner) > 1)}"
        message = f"{folder}: holds no results itself, but {folders}: {names}."
        return ResultsError(message, fix=f"bnbench report {words}")
    outer = next((path for path in folder.absolute().parents if (path / PLAN).is_file()), None)
    return ResultsError(
        f"{folder}: no results of bnbench here ({PLAN} is missing).",
        fix=f"bnbench report {shlex.quote(os.path.relpath(outer))}"
        if outer
        else "name the folder that `bnbench compare` wrote, such as results/quickstart.",
    )


def is_cut(path: Path) -> bool:
    """Whether it is a plan of bnbench that was cut short (a power loss, a full disk): empty, or not valid JSON."""
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
    planned = Cell(cell.variant, cell.setting, cell.cell, tuple(cell.seeds))
    return replace(planned, records=tuple(load_runs(folder, planned, warnings)))


def _read_study(text: str) -> Any:
    return read_yaml(text, STUDY).data


def _optional(path: Path, parse: Callable[[str], Any], warnings: list[str]) -> Mapping[str, Any]:
    """A file that no table needs: a fault in it is a warning."""
    try:
        values = parse(read_text(path))
        if not isinstance(values, dict):
            raise ValueError("it holds no keys and values")
        return values
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        warnings.append(f"{path}: can't be read: {error}.")
        return {}
