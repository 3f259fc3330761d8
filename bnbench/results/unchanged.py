"""Whether a large results folder is as it was: then its answer, kept beside summary.json, is shown as it stands.

A fingerprint holds the content of the plan and of study.yaml, the identity, size and times of every file of every run,
and the versions that the numbers depend on. Any edit, damage, new or removed file changes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bnbench.base.errors import ResultsError
from bnbench.base.files import hash_of, read_text, to_json, write_whole
from bnbench.results.files import (
    ANSWER,
    ENVIRONMENT,
    PLAN,
    REPORT,
    RUNS,
    SCHEMA_VERSION,
    STUDY,
    SUMMARY_CSV,
    SUMMARY_JSON,
)
from bnbench.results.probes import PROBES
from bnbench.results.sheets import SHEETS

#: Folders with fewer runs are computed again: that takes no time.
LEAST_RUNS = 1000
#: Answers to so many ways of asking are kept.
_MOST = 4
_PACKAGES = ("bnbench", "numpy", "scipy", "plotly", "pydantic")


@dataclass(frozen=True)
class Kept:
    """An answer as it was shown. finished: whether every run of the plan was found to be finished, with its answers.

    content: what shows it again, as plain values.
    """

    finished: bool
    content: Mapping[str, Any]


def scan(folder: Path) -> str:
    """The fingerprint of a folder's runs; "" where a file can't be read, or there are few runs."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        if _num_planned(read_text(folder / PLAN)) < LEAST_RUNS:
            return ""
        for cell in _sorted(folder / RUNS):
            digest.update(cell.name.encode("utf-8", "surrogateescape"))
            for run in _sorted(cell.path):
                line = f"\n{run.name}\n{''.join(map(_identity, _sorted(run.path)))}"
                digest.update(line.encode("utf-8", "surrogateescape"))
    except (OSError, ValueError, RecursionError):
        return ""
    return digest.hexdigest()


def state_of(folder: Path, scanned: str) -> str:
    """The fingerprint of all that an answer is computed from; "" where it can't be told. scanned: its runs."""
    try:
        texts = [read_text(folder / name) for name in (PLAN, STUDY)]
    except (OSError, ValueError):
        return ""
    return hash_of([scanned, sys.version, *_versions(), _newest_code(), *texts], 32) if scanned else ""


def keep(folder: Path, state: str, asked: str, kept: Kept) -> None:
    """Keep an answer. asked: stands for the command, its options and all else that the answer depends on.

    Where the disk won't do, it is not kept.
    """
    others = _answers(folder) if (values := _read(folder)) and values.get("state") == state else {}
    others.pop(asked, None)
    answer = {"finished": kept.finished, "outputs": _outputs(folder), "content": kept.content}
    answers = dict([*others.items(), (asked, answer)][-_MOST:])
    with suppress(ResultsError):
        write_whole(
            folder / ANSWER,
            to_json({"schema_version": SCHEMA_VERSION, "state": state, "answers": answers}, ascii=True),
        )


def kept_answer(folder: Path, state: str, asked: str) -> Kept | None:
    """The answer to just that, where neither a run, nor the plan, nor a file of the summary has changed since."""
    values = _read(folder)
    answer = _answers(folder).get(asked)
    if not state or values.get("state") != state or answer is None or answer["outputs"] != _outputs(folder):
        return None
    return Kept(answer["finished"], answer["content"])


def all_finished(folder: Path, state: str) -> bool:
    """Whether every planned run was found to be finished, in this state of the folder."""
    known = bool(state) and _read(folder).get("state") == state
    return known and any(answer["finished"] for answer in _answers(folder).values())


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(read_text(folder / ANSWER))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) and values.get("schema_version") == SCHEMA_VERSION else {}


def _answers(folder: Path) -> dict[str, Any]:
    answers = _read(folder).get("answers")
    known = {"finished": bool, "outputs": list, "content": dict}
    return {
        asked: answer
        for asked, answer in (answers.items() if isinstance(answers, dict) else ())
        if isinstance(answer, dict) and all(isinstance(answer.get(key), kind) for key, kind in known.items())
    }


def _num_planned(plan: str) -> int:
    """Raises ValueError where it is no plan."""
    values = json.loads(plan)
    cells = values.get("cells") if isinstance(values, dict) else None
    count = 0
    for cell in cells or ():
        seeds = cell.get("seeds") if isinstance(cell, dict) else None
        if not isinstance(seeds, list):
            raise ValueError("it is no plan")
        count += len(seeds)
    return count


def _versions() -> Iterator[str]:
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            yield f"{package} {version(package)}"


def _newest_code() -> int:
    """Changes when a file of bnbench is edited in place, as who develops it does."""
    times = [0]
    for place, _, names in os.walk(Path(__file__).parents[1]):
        if not place.endswith("__pycache__"):
            times += [os.stat(os.path.join(place, name)).st_mtime_ns for name in names]
    return max(times)


def _sorted(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _identity(entry: os.DirEntry[str]) -> str:
    state = entry.stat()
    return f"{entry.name} {_numbers(state)};"


def _numbers(state: os.stat_result) -> str:
    return f"{state.st_dev} {state.st_ino} {state.st_mode} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _outputs(folder: Path) -> list[str]:
    """The files of the summary as they are: one that was edited, or is gone, is to be written again."""
    names = [SUMMARY_JSON, SUMMARY_CSV, REPORT, ENVIRONMENT, PROBES]
    with suppress(OSError):
        names += [f"{SHEETS}/{name}" for name in sorted(os.listdir(folder / SHEETS))]
    lines = []
    for name in names:
        try:
            lines.append(f"{name} {_numbers((folder / name).stat())}")
        except OSError:
            lines.append(f"{name} is not there")
    return lines
