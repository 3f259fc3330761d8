"""Reading a results folder. A run that can't be read is named, and counts as missing; nothing is guessed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bnbench.config import Margin, Target, read_yaml
from bnbench.errors import ConfigError, ResultsError
from bnbench.plan import HistoryRow, RunRecord
from bnbench.results.checks import Plan, PlannedCell, check_run
from bnbench.results.contents import Cell, EarlierLook, StudyResults
from bnbench.results.files import (
    ENVIRONMENT,
    HISTORY,
    PLAN,
    RUN,
    SCHEMA_VERSION,
    STEPS,
    STUDY,
    read_csv,
    to_number,
)

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
    """Everything that the folder holds of its study. Raises ResultsError where there is no readable plan."""
    try:
        plan = Plan.model_validate(read_plan(folder))
    except ValidationError as error:
        raise PlanDamagedError(f"{folder / PLAN}: damaged: {_first(error)}.", fix=_RERUN) from None
    warnings: list[str] = []
    cells = tuple(_load_cell(folder, cell, warnings) for cell in plan.cells)
    targets = tuple(Target(t.metric, to_number(t.value), t.match_baseline) for t in plan.targets)
    margin = Margin(plan.margin.metric, plan.margin.value) if plan.margin else None
    study = _optional(folder / STUDY, _read_study, warnings)
    environment = _optional(folder / ENVIRONMENT, json.loads, warnings)
    return StudyResults(
        plan.name,
        plan.baseline,
        targets,
        cells,
        study,
        environment,
        tuple(warnings),
        primary=plan.primary,
        margin=margin,
        looks=tuple(plan.looks),
        earlier=tuple(EarlierLook(e.seeds, tuple(e.looks), e.primary, e.margin) for e in plan.earlier),
        metrics=tuple(plan.metrics),
    )


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a folder. Raises ResultsError where there is none, or one from a newer bnbench."""
    path = folder / PLAN
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["schema_version"]
    except (FileNotFoundError, NotADirectoryError):
        raise ResultsError(
            f"{folder}: no results of bnbench here ({PLAN} is missing).",
            fix="name the folder that `bnbench compare` wrote, such as results/quickstart.",
        ) from None
    except OSError as error:
        raise ResultsError(f"{path}: can't be read: {error.strerror}.") from None
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


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    detail = error.errors()[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where}: {detail['msg']}" if where else detail["msg"]


def _load_cell(folder: Path, cell: PlannedCell, warnings: list[str]) -> Cell:
    found = Cell(cell.variant, cell.setting, cell.cell, tuple(cell.seeds))
    records = (load_run(folder, found, seed, warnings) for seed in found.seeds)
    return replace(found, records=tuple(record for record in records if record))


def run_folder(folder: Path, variant: str, cell: str, seed: int) -> Path:
    """Where a run lies in the results folder."""
    return folder / "runs" / f"{variant}-{cell}" / f"seed-{seed}"


def load_run(results: Path, cell: Cell, seed: int, warnings: list[str]) -> RunRecord | None:
    """The record of one run; None where it is missing or, with a warning, where it can't be believed."""
    folder = run_folder(results, cell.variant, cell.cell, seed)
    if not os.path.lexists(folder):
        return None
    try:
        values = json.loads((folder / RUN).read_text(encoding="utf-8"))
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
    header, *lines = path.read_text(encoding="utf-8").splitlines()
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
        values = parse(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no keys and values")
        return values
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        warnings.append(f"{path}: can't be read: {error}.")
        return {}
