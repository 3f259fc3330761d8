"""Reading one run of a results folder. A run that can't be read is named, and counts as missing; nothing is guessed."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bnbench.base.files import read_text, to_number
from bnbench.results.checks import check_run
from bnbench.results.contents import Cell
from bnbench.results.files import HISTORY, RUN, RUNS, SCHEMA_VERSION, STEPS
from bnbench.results.placing import leftovers
from bnbench.results.probes import PROBES, read_probes
from bnbench.results.samples import SAMPLES, read_samples
from bnbench.study.records import HistoryRow, ProbeRow, RunRecord, TestSamples

#: So often a run is read while another process writes it again.
_TRIES = 20


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


def run_folder(folder: Path, variant: str, cell: str, seed: int) -> Path:
    """Where a run lies in the results folder."""
    return folder / run_place(variant, cell, seed)


def run_place(variant: str, cell: str, seed: int) -> str:
    """The same from the results folder, with slashes on every system."""
    return f"{RUNS}/{variant}-{cell}/seed-{seed}"


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
        run_warnings: list[str] = []
        with kept_open(folder) as before:
            record = _load_record(folder, cell, seed, run_warnings)
            if before == identity_of(folder):
                warnings += run_warnings
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
        for part in ("inference", "inference_best"):
            values[part] = {
                way: {name: to_number(value) for name, value in numbers.items()}
                for way, numbers in values.get(part, {}).items()
            }
        values["inside"] = {name: to_number(value) for name, value in values.get("inside", {}).items()}
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
    return read_samples(_folder_of(results, cell, run) / SAMPLES, run)


def load_probes(results: Path, cell: Cell, run: RunRecord) -> tuple[ProbeRow, ...] | None:
    """What the run's probes measured; None where there is no such file. Raises ValueError and OSError."""
    return read_probes(_folder_of(results, cell, run) / PROBES, run)


def _folder_of(results: Path, cell: Cell, run: RunRecord) -> Path:
    """Where the run lies: in its place, or where a kill left it beside that."""
    place = run_folder(results, cell.variant, cell.cell, run.seed)
    return place if os.path.lexists(place) else leftovers(place.parent).get(place.name, place)


def _read_history(path: Path) -> Iterator[HistoryRow]:
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    names = next((row for row in rows if row), [])
    for cells in rows:
        if not cells:
            continue
        if len(cells) != len(names):
            raise ValueError(f"{path.name} has a row of the wrong length")
        row = dict(zip(names, cells, strict=True))
        loss = row.pop("batch_loss")
        yield HistoryRow(
            step=int(row.pop("step")),
            epoch=float(row.pop("epoch")),
            train_seconds=float(row.pop("train_seconds")),
            batch_loss=float(loss) if loss else None,
            metrics={name: float(value) if value else math.nan for name, value in row.items()},
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
