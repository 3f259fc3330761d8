"""Writing a results folder: what is planned first, then every run as it ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bnbench.config import Study, resolved, to_yaml
from bnbench.errors import ResultsError
from bnbench.plan import RunRecord, RunSpec
from bnbench.results.contents import Cell, StudyResults
from bnbench.results.files import (
    CHECKPOINT,
    ENVIRONMENT,
    HISTORY,
    PLAN,
    RUN,
    SCHEMA_VERSION,
    STEPS,
    STUDY,
    disk_errors,
    to_csv,
    to_json,
    write_whole,
)
from bnbench.results.history import earlier_looks
from bnbench.results.reader import PlanDamagedError, load_folder, load_run, read_plan, run_folder


class ResultsFolder:
    """One study's folder on disk. Every method raises ResultsError where the disk or its content won't do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open_for(self, study: Study, runs: Sequence[RunSpec], environment: Mapping[str, Any]) -> None:
        """Make the folder, and write down what is planned, before any training."""
        plan = _plan(study, runs)
        if (self.path / PLAN).exists():
            self._check_plan()
            plan["earlier"] = earlier_looks(self.path, plan)
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise ResultsError(
                f"{self.path}: the folder is not empty and holds no results of bnbench.",
                "Nothing in it was touched.",
                "--output with another folder, or empty this one.",
            )
        self.write(STUDY, to_yaml(resolved(study, self.path)))
        self.write(PLAN, to_json({"schema_version": SCHEMA_VERSION, **plan}))
        self.write(ENVIRONMENT, to_json(environment))

    def _check_plan(self) -> None:
        """Refuses to overwrite a newer schema, and what may not be ours; one that is damaged is written anew."""
        try:
            read_plan(self.path)
        except PlanDamagedError:
            if not (self.path / "runs").is_dir():
                raise

    def has(self, run: RunSpec) -> bool:
        """Whether this very run is there with a result (a crashed run is none: it is tried again)."""
        cell = Cell(run.variant, run.setting, run.cell, (run.seed,))
        record = load_run(self.path, cell, run.seed, [])
        return record is not None and record.outcome != "crashed"

    def save(self, run: RunSpec, record: RunRecord, weights: Mapping[str, Any] | None) -> None:
        """Write a run's folder, whole or not at all; a folder of the same run is replaced."""
        target = self._run_folder(run)
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
            replaced = aside.with_suffix(".replaced")
            try:
                (aside / RUN).write_text(to_json(_run_json(record)), encoding="utf-8")
                (aside / HISTORY).write_text(to_csv(_history_rows(record)), encoding="utf-8")
                (aside / STEPS).write_text(to_csv(_step_rows(record)), encoding="utf-8")
                if weights is not None:
                    from safetensors.numpy import save

                    (aside / CHECKPOINT).write_bytes(save(dict(weights)))
                aside.chmod(0o755)
                if target.exists():
                    target.rename(replaced)
                aside.rename(target)
            finally:
                if replaced.exists() and not target.exists():
                    replaced.rename(target)  # interrupted in between: the old run is better than none
                shutil.rmtree(aside, ignore_errors=True)
                shutil.rmtree(replaced, ignore_errors=True)

    def write(self, name: str, text: str) -> None:
        """Write one file of the folder, whole or not at all."""
        write_whole(self.path / name, text)

    def load(self) -> StudyResults:
        """Read everything back (see `reader.py`)."""
        return load_folder(self.path)

    def other_runs(self) -> int:
        """How many runs of other settings or seeds are in the folder: left alone, not shown."""
        shown = {
            run_folder(self.path, cell["variant"], cell["cell"], seed)
            for cell in read_plan(self.path)["cells"]
            for seed in cell["seeds"]
        }
        return sum(run.parent not in shown for run in self.path.glob(f"runs/*/seed-*/{RUN}"))

    def _run_folder(self, run: RunSpec) -> Path:
        return run_folder(self.path, run.variant, run.cell, run.seed)


def _plan(study: Study, runs: Sequence[RunSpec]) -> dict[str, Any]:
    cells: dict[str, dict[str, Any]] = {}
    for run in runs:
        key = f"{run.variant}-{run.cell}"
        cell = {"variant": run.variant, "setting": dict(run.setting), "cell": run.cell, "seeds": []}
        cells.setdefault(key, cell)["seeds"].append(run.seed)
    return {
        "name": study.name,
        "baseline": study.baseline,
        "targets": [asdict(target) for target in study.targets],
        "primary": study.primary,
        "margin": asdict(study.margin) if study.margin else None,
        "looks": list(study.looks),
        "metrics": list(study.metrics),
        "cells": list(cells.values()),
    }


def _run_json(record: RunRecord) -> dict[str, Any]:
    values = asdict(record)
    del values["history"], values["step_losses"]
    return {"schema_version": SCHEMA_VERSION, **values}


def _history_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for row in record.history:
        yield {
            "step": row.step,
            "epoch": row.epoch,
            "train_seconds": row.train_seconds,
            "batch_loss": row.batch_loss,
            **row.metrics,
        }


def _step_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for step, loss in enumerate(record.step_losses, start=1):
        yield {"step": step, "batch_loss": f"{loss:.9g}"}  # nine digits are all that a float32 has
