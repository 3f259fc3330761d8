"""A folder that keeps its summary alone: study.yaml, summary.json and environment.json, as a repository commits them.

Its runs are known by their outcomes and their final numbers. Their histories, answers and weights are not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bnbench.base.errors import ConfigError, ResultsError
from bnbench.base.files import hash_of, read_text, to_number
from bnbench.base.metrics import GAPS
from bnbench.results.contents import Cell, StudyResults
from bnbench.results.files import ENVIRONMENT, SCHEMA_VERSION, STUDY, SUMMARY_JSON
from bnbench.results.sheets import load_kept_sheet
from bnbench.results.task import read_task
from bnbench.study import DEFAULT_PRIMARY, Margin, Target, read_yaml
from bnbench.study.records import Outcome, RunRecord

#: The warning of such a folder.
LEFT_OUT = (
    f"this folder keeps {SUMMARY_JSON} alone, without the runs: their curves are left out, and nothing in it is "
    "rewritten. `bnbench compare` with its study.yaml trains the runs again."
)


class _Run(BaseModel):
    """A run in summary.json."""

    model_config = ConfigDict(extra="ignore")
    seed: int
    outcome: Outcome
    error: str | None = None
    steps: int = 0
    planned_steps: int = 0
    seconds: float | None = None
    final: dict[str, float | None] = {}
    best: dict[str, float | None] = {}
    best_step: int | None = None
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    environment: dict[str, Any] = {}
    num_samples: dict[str, int] = {}
    class_names: tuple[str, ...] = ()
    class_counts: dict[str, tuple[int, ...]] = {}


class _Variant(BaseModel):
    """A variant at one setting."""

    model_config = ConfigDict(extra="ignore")
    name: str
    setting: dict[str, Any] = {}
    norm: str
    parameters: int | None
    trained_parameters: int | None = None
    steps_per_epoch: int | None
    layers: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    runs: list[_Run]


class _Target(BaseModel):
    model_config = ConfigDict(extra="ignore")
    metric: str
    value: float | None
    match_baseline: bool = False


class _Margin(BaseModel):
    metric: str
    value: float


class _Summary(BaseModel):
    """What is needed of summary.json to know the runs; the rest is read by the analysis."""

    model_config = ConfigDict(extra="ignore")
    schema_version: int
    name: str
    baseline: str
    targets: list[_Target] = []
    variants: list[_Variant]
    primary: str = DEFAULT_PRIMARY
    margin: _Margin | None = None
    metrics: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    looks: tuple[int, ...] = ()
    checks: dict[str, str] = {}
    task: dict[str, Any] | None = None


def is_condensed(folder: Path) -> bool:
    """Whether the folder has a summary. Call it only for a folder without a plan."""
    return (folder / SUMMARY_JSON).is_file()


def load_condensed(folder: Path) -> StudyResults:
    """The results of such a folder. Raises ResultsError where its summary can't be read."""
    path = folder / SUMMARY_JSON
    fix = "restore the file, or run `bnbench compare` with the same study again."
    try:
        values = json.loads(read_text(path))
        summary = _Summary.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise ResultsError(f"{path}: damaged: {where}: {detail['msg']}.", fix=fix) from None
    except OSError as error:
        raise ResultsError(f"{path}: can't be read: {error.strerror or error}.", fix=fix) from None
    except (ValueError, RecursionError):
        raise ResultsError(f"{path}: damaged: it is not JSON.", fix=fix) from None
    if not 1 <= summary.schema_version <= SCHEMA_VERSION:
        message = (
            f"{path}: schema version {summary.schema_version}, this bnbench knows up to {SCHEMA_VERSION}."
        )
        raise ResultsError(message, fix="upgrade bnbench.")
    task = read_task(path, summary.task, ResultsError, fix)
    study, warnings = _study(folder / STUDY)
    margin = summary.margin
    return StudyResults(
        summary.name,
        summary.baseline,
        tuple(Target(t.metric, to_number(t.value), t.match_baseline) for t in summary.targets),
        tuple(_cell(variant, study) for variant in summary.variants),
        study,
        _environment(folder / ENVIRONMENT),
        warnings,
        primary=summary.primary,
        margin=Margin(margin.metric, margin.value) if margin else None,
        looks=summary.looks,
        metrics=(*summary.metrics, *(part for part in summary.parts if part in GAPS)),
        checks=summary.checks,
        task=task,
        sheet=partial(load_kept_sheet, folder),
        condensed=values,
    )


def _cell(variant: _Variant, study: Mapping[str, Any]) -> Cell:
    question = {key: value for key, value in study.items() if key not in ("seeds", "variants")}
    own = study.get("variants")
    settings = own.get(variant.name) if isinstance(own, Mapping) else None
    identity = hash_of([question, settings, variant.name, variant.setting], 12)
    records = tuple(_record(run, variant, identity) for run in variant.runs)
    return Cell(variant.name, variant.setting, identity, variant.seeds, records)


def _record(run: _Run, variant: _Variant, cell: str) -> RunRecord:
    crashed = run.outcome == "crashed"
    return RunRecord(
        variant=variant.name,
        setting=variant.setting,
        seed=run.seed,
        cell=cell,
        norm=variant.norm,
        outcome=run.outcome,
        error=run.error,
        steps=run.steps,
        planned_steps=run.planned_steps,
        steps_per_epoch=variant.steps_per_epoch or 0,
        train_seconds=run.seconds or 0.0,
        num_parameters=variant.parameters or 0,
        trained_parameters=variant.trained_parameters,
        final={} if crashed else {name: to_number(value) for name, value in run.final.items()},
        best={} if crashed else {name: to_number(value) for name, value in run.best.items()},
        best_step=run.best_step,
        notes=run.notes,
        layers=variant.layers,
        environment=run.environment,
        num_samples=run.num_samples,
        class_counts=run.class_counts,
        class_names=run.class_names,
        cautions=run.cautions,
    )


def _study(path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    try:
        return read_yaml(read_text(path), STUDY).data, ()
    except (OSError, ValueError, ConfigError) as error:
        return {}, (f"{path}: can't be read: {error}.",)


def _environment(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
