"""File names, the two text formats, and writes that happen whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import math
import os
import secrets
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bnbench.base.errors import ResultsError

SCHEMA_VERSION = 1

STUDY, PLAN, ENVIRONMENT = "study.yaml", "plan.json", "environment.json"
#: Beside the folders of several studies: what they say together.
WORKLOADS_JSON = "workloads.json"
SUMMARY_JSON, SUMMARY_CSV, REPORT = "summary.json", "summary.csv", "report.html"
#: The folder of all runs, and the files of each.
RUNS = "runs"
RUN, HISTORY, STEPS, CHECKPOINT = "run.json", "history.csv", "steps.csv", "checkpoint.safetensors"
#: How the name of a file ends that is being written, or that a kill left behind.
WRITING = ".writing"


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
    """Write aside, then rename: the file is there whole or not at all, also after a power loss.

    Raises ResultsError where the disk won't do.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{WRITING}")
        try:
            write_file(aside, text.encode("utf-8"))
            aside.replace(target)
            sync_folder(target.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, down to the disk: a rename must not survive its data."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Write a folder's names down to the disk, where the system can do that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(number)
        finally:
            os.close(number)


def read_text(path: Path) -> str:
    """The text of a regular file. Raises OSError for anything else: a pipe would never end."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with os.fdopen(number, encoding="utf-8", newline="", closefd=False) as file:
            return file.read()
    finally:
        os.close(number)


def free_name(folder: Path) -> str:
    """A folder of nearly that name that is not there yet, quoted for a shell."""
    name = folder.resolve().name or "results"
    free = (folder.resolve().parent / f"{name}-{number}" for number in itertools.count(2))
    path = next(path for path in free if not os.path.lexists(path))
    return shlex.quote(os.path.relpath(path) if not folder.is_absolute() else str(path))


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
    return list(csv.DictReader(io.StringIO(read_text(path), newline="")))


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
