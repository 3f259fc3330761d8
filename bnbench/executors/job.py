"""What travels to a worker, and what comes back. Plain data: no pickle of bnbench's own objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class RunId(NamedTuple):
    """Which run of a study: the label of its variant at its setting, its seed, and the identity that it must have."""

    label: str
    seed: int
    cell: str


@dataclass(frozen=True)
class Job:
    """Runs that a worker trains together: a stack of seeds. A job that is done twice gives one result.

    key: hash of its content. study: its YAML, complete. runs: of the study. cells: by label, what was decided for them
    (the engine, its threads, cautions), as plain values. plugins: the text of the files that the study needs, by
    their names. folder: the shared results folder, which a worker may find or not. versions: of bnbench and torch,
    which the worker's must equal. options: device, data folder, save_every and what else the worker has to know.
    """

    key: str
    study: str
    runs: tuple[RunId, ...]
    cells: Mapping[str, Any]
    plugins: Mapping[str, str] = field(repr=False)
    folder: str
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    seconds: float = 0.0


@dataclass(frozen=True)
class JobResult:
    """What a job gave. done: runs whose results lie in the shared folder. files: of the others, the content of each
    file by its path within the results folder. paused: runs that stopped before their end, with the reason.
    refused: why the worker did not take the job (another version, data that differ); "" where it did.
    """

    key: str
    done: tuple[RunId, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    paused: tuple[tuple[RunId, str], ...] = ()
    refused: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
