"""File names, the two text formats, and writes that happen whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bnbench.errors import ResultsError

SCHEMA_VERSION = 1

STUDY, PLAN, ENVIRONMENT = "study.yaml", "plan.json", "environment.json"
#: Beside the folders of several studies: what they say together.
WORKLOADS_JSON = "workloads.json"
SUMMARY_JSON, SUMMARY_CSV, REPORT = "summary.json", "summary.csv", "report.html"
RUN, HISTORY, STEPS, CHECKPOINT = "run.json", "history.csv", "steps.csv", "checkpoint.safetensors"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full disk or a folder without permission, said in one message."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ResultsError(
            f"{path}: can't be written: {error.strerror or error}.",
            "The disk is full; what was finished before is kept, whole." if full else "",
            "free some space and run the same command again: it goes on where it stopped."
            if full
            else "--output with a folder that you may write to.",
        ) from None


def write_whole(target: Path, text: str) -> None:
    """Write aside, then rename. Raises ResultsError where the disk won't do."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}.writing")
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of the same keys as CSV, with a header."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as texts."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def to_number(value: Any) -> float:
    """A float; null and "" are NaN."""
    return float("nan") if value in (None, "") else float(value)


def to_json(values: Any) -> str:
    """Strict JSON: what is not finite becomes null."""
    return json.dumps(_finite(values), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
