"""Reading a results folder. A run that can't be read is named, and counts as missing; nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from bnbench.config import DEFAULT_PRIMARY, Margin, Target
from bnbench.errors import ResultsError
from bnbench.plan import HistoryRow, RunRecord
from bnbench.results.contents import Cell, StudyResults
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


def load_folder(folder: Path) -> StudyResults:
    """Everything that the folder holds of its study. Raises ResultsError where there is no readable plan."""
    plan = read_plan(folder)
    warnings: list[str] = []
    try:
        cells = tuple(_load_cell(folder, cell, warnings) for cell in plan["cells"])
        targets = tuple(_target(target) for target in plan["targets"])
        primary = str(plan.get("primary", DEFAULT_PRIMARY))
        margin = Margin(**plan["margin"]) if plan.get("margin") else None
        name, baseline = str(plan["name"]), str(plan["baseline"])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{folder / PLAN}: damaged: {error!r}.", fix=_RERUN) from None
    study = _optional(folder / STUDY, yaml.safe_load, warnings)
    environment = _optional(folder / ENVIRONMENT, json.loads, warnings)
    return StudyResults(
        name, baseline, targets, cells, study, environment, tuple(warnings), primary=primary, margin=margin
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
    except (ValueError, KeyError, TypeError):
        raise ResultsError(f"{path}: damaged: it is no JSON with a schema_version.", fix=_RERUN) from None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema version {version}, this bnbench knows up to {SCHEMA_VERSION}.",
            "A newer bnbench made this folder. Nothing in it was touched.",
            "upgrade bnbench, or name another folder with --output.",
        )
    return dict(values)


def _target(values: Mapping[str, Any]) -> Target:
    """The value of one that matches the baseline is null: it is not known before the runs are."""
    return Target(values["metric"], to_number(values["value"]), bool(values.get("match_baseline", False)))


def _load_cell(folder: Path, cell: Mapping[str, Any], warnings: list[str]) -> Cell:
    runs = folder / "runs" / f"{cell['variant']}-{cell['cell']}"
    records = [load_run(runs / f"seed-{seed}", cell["cell"], warnings) for seed in cell["seeds"]]
    return Cell(
        cell["variant"],
        cell["setting"],
        cell["cell"],
        tuple(cell["seeds"]),
        tuple(record for record in records if record),
    )


def load_run(folder: Path, cell: str, warnings: list[str]) -> RunRecord | None:
    """The record in a run's folder; None where it is missing or, with a warning, where it can't be read."""
    if not folder.exists():
        return None
    try:
        values = json.loads((folder / RUN).read_text(encoding="utf-8"))
        version = values.pop("schema_version")
        if version > SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, this bnbench knows up to {SCHEMA_VERSION}")
        if values["cell"] != cell:
            raise ValueError(f"it is a run of other settings ({values['cell']}, not {cell})")
        for part in ("final", "best"):
            values[part] = {name: to_number(value) for name, value in values[part].items()}
        values["history"] = list(_read_history(folder / HISTORY))
        values["step_losses"] = _read_steps(folder / STEPS)
        return _RECORD.validate_python(values)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        warnings.append(f"{folder}: left out, as {where} can't be read: {detail['msg']}.")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        warnings.append(f"{folder}: left out, as it can't be read: {type(error).__name__}: {error}.")
    return None


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
    if not lines:  # a run that crashed before its first step
        return ()
    column = header.split(",").index("batch_loss")
    return tuple(to_number(line.split(",")[column]) for line in lines)


def _optional(path: Path, parse: Callable[[str], Any], warnings: list[str]) -> Mapping[str, Any]:
    """A file that no table needs: what is wrong with it is a warning."""
    try:
        values = parse(path.read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        warnings.append(f"{path}: can't be read: {error}.")
        return {}
