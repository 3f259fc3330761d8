"""What travels to a worker, and what comes back. Plain data: no pickle of bnbench's own objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from bnbench.base.files import hash_of
from bnbench.executors.packet import pack, unpack


class RunId(NamedTuple):
    """Which run of a study: the label of its variant at its setting, its seed, and the identity that it must have."""

    label: str
    seed: int
    cell: str


class Paused(NamedTuple):
    """A run that stopped before its end, at which step, and why."""

    run: RunId
    step: int
    reason: str


@dataclass(frozen=True)
class Job:
    """Runs that a worker trains together, such as a stack of seeds. A job that is done twice gives one result.

    key: hash of its content. study: its name. runs: of the study. cells: by label, the part of the study that they
    are, with every setting written out, and what was decided for it (the engine, its threads, cautions), as plain
    values. plugins: the files of the user's code, by their names. folder: the shared results folder, which a worker
    may find or not. versions: of bnbench and torch, which the worker's must equal. options: device, data folder,
    save_every and what else the worker has to know. seconds: predicted. place: jobs of one place share a machine where
    possible. slots: how many workers' share of a machine it takes.
    """

    key: str
    study: str
    runs: tuple[RunId, ...]
    cells: Mapping[str, Any]
    plugins: Mapping[str, bytes] = field(repr=False)
    folder: str
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    seconds: float = 0.0
    place: int = 0
    slots: int = 1

    def part(self, runs: Sequence[RunId]) -> Job:
        """Some of its runs, as a job of its own."""
        if tuple(runs) == self.runs:
            return self
        share = len(runs) / len(self.runs)
        key = content_key(self.study, runs, self.cells)
        return replace(self, key=key, runs=tuple(runs), seconds=self.seconds * share)

    def with_options(self, **options: Any) -> Job:
        """With further options."""
        return replace(self, options={**self.options, **options})

    def to_bytes(self) -> bytes:
        """The bytes that travel: of the cells, those of its runs."""
        labels = dict.fromkeys(run.label for run in self.runs)
        header = {
            "key": self.key,
            "study": self.study,
            "runs": self.runs,
            "cells": {label: self.cells[label] for label in labels},
            "folder": self.folder,
            "versions": self.versions,
            "options": self.options,
        }
        return pack(header, self.plugins)

    @classmethod
    def from_bytes(cls, content: bytes) -> Job:
        """The same again. Raises ValueError where the bytes are no job."""
        header, plugins = unpack(content)
        runs = tuple(RunId(*run) for run in header["runs"])
        return cls(**{**header, "runs": runs, "plugins": plugins})


def content_key(study: str, runs: Sequence[RunId], cells: Mapping[str, Any]) -> str:
    """Stands for what a job trains: the identities of its runs hold all else."""
    engines = {run.label: cells[run.label]["choice"] for run in runs}
    return hash_of([study, runs, engines], 16)


@dataclass(frozen=True)
class JobResult:
    """What a job gave. done: runs whose results lie in the shared folder. files: of the others, the content of each
    file by its path within the results folder. paused: runs that stopped before their end.
    refused: why the worker did not take the job (another version, data that differ); "" where it did.
    machine: the worker's.
    """

    key: str
    done: tuple[RunId, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    paused: tuple[Paused, ...] = ()
    refused: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The bytes that travel."""
        header = {
            "key": self.key,
            "done": self.done,
            "paused": self.paused,
            "refused": self.refused,
            "machine": self.machine,
        }
        return pack(header, self.files)

    @classmethod
    def from_bytes(cls, content: bytes) -> JobResult:
        """The same again. Raises ValueError where the bytes are no result."""
        header, files = unpack(content)
        done = tuple(RunId(*run) for run in header["done"])
        paused = tuple(Paused(RunId(*run), step, reason) for run, step, reason in header["paused"])
        return cls(**{**header, "done": done, "paused": paused, "files": files})
