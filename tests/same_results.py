"""Two results folders of one study hold the same results, bit for bit, whatever became of their runs on the way.

Left out is what may differ: seconds, and the circumstances under which a run was trained.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from bnbench.results.files import RUN, RUNS, SUMMARY_CSV

#: Keys of run.json that hold seconds, or the machine and the time of its training.
_OF_RUN = ("train_seconds", "probe_seconds", "environment")
#: Where a word of it is a part of a column's name, the column holds seconds.
_SECONDS = "seconds"


def assert_same(folder_a: Path, folder_b: Path) -> None:
    """Raises AssertionError that names the first files that differ, or what is left over in either folder."""
    faults = [f"{folder}: left over: {name}" for folder in (folder_a, folder_b) for name in leftovers(folder)]
    faults += different_runs(folder_a, folder_b)
    if without_seconds(folder_a / SUMMARY_CSV) != without_seconds(folder_b / SUMMARY_CSV):
        faults.append(f"{SUMMARY_CSV} differs")
    assert not faults, f"{folder_a} and {folder_b}:\n" + "\n".join(faults[:20])


def different_runs(folder_a: Path, folder_b: Path) -> list[str]:
    """What differs between their runs, a line each; empty where nothing does. Neither may lack a run of the other."""
    runs_a, runs_b = _runs(folder_a), _runs(folder_b)
    faults = [f"{name}: only in {folder_a}" for name in sorted(runs_a - runs_b)]
    faults += [f"{name}: only in {folder_b}" for name in sorted(runs_b - runs_a)]
    if not runs_a:
        faults.append(f"{folder_a}: no run at all")
    for name in sorted(runs_a & runs_b):
        faults += _different_files(folder_a / RUNS / name, folder_b / RUNS / name, name)
    return faults


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders: states, half-written files, runs beside their places. A whole folder has none."""
    found = []
    for parent, folders, files in os.walk(folder):
        found += [
            str((Path(parent) / name).relative_to(folder))
            for name in (*folders, *files)
            if name.startswith(".")
        ]
    return sorted(found)


def without_seconds(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, without the columns of seconds. No rows where there is no such file."""
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    return [{name: value for name, value in row.items() if _SECONDS not in name} for row in rows]


def _runs(folder: Path) -> set[str]:
    return {path.parent.relative_to(folder / RUNS).as_posix() for path in folder.glob(f"{RUNS}/*/*/{RUN}")}


def _different_files(run_a: Path, run_b: Path, name: str) -> list[str]:
    names_a, names_b = set(os.listdir(run_a)), set(os.listdir(run_b))
    faults = [f"{name}/{file}: in one of them alone" for file in sorted(names_a ^ names_b)]
    for file in sorted(names_a & names_b):
        if _content(run_a / file) != _content(run_b / file):
            faults.append(f"{name}/{file} differs{_where(run_a / file, run_b / file)}")
    return faults


def _content(path: Path) -> Any:
    """What must be equal: of tensors and pictures every byte."""
    if path.name == RUN:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {key: value for key, value in values.items() if key not in _OF_RUN}
    return without_seconds(path) if path.suffix == ".csv" else path.read_bytes()


def _where(file_a: Path, file_b: Path) -> str:
    """The first place where texts differ; "" of bytes."""
    a, b = _content(file_a), _content(file_b)
    if isinstance(a, dict):
        keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
        return "".join(f"; {key}: {a.get(key)!r} and {b.get(key)!r}"[:300] for key in keys[:2])
    if isinstance(a, list):
        row = next(
            (i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b))
        )
        return f" in row {row + 1}: {a[row : row + 1]} and {b[row : row + 1]}"[:300]
    return ""
