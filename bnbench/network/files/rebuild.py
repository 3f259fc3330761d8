"""The network of X.safetensors and X.json again: built by its source, changed as it was, with its tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

import bnbench
from bnbench.base.errors import BnbenchError, ResultsError
from bnbench.base.files import read_text
from bnbench.base.process_state import left_as_found
from bnbench.base.registry import Entry
from bnbench.network.convert.placed import norm_of
from bnbench.network.files.changes import apply
from bnbench.network.files.parts import Allowed
from bnbench.network.files.save import FORMAT, Saved, digest_of, paths_of
from bnbench.network.files.tensors import State, put_state, read_tensors

#: Values that a network may have beside those of the file: buffers that the state_dict leaves out.
_SPARE = 2**20


class BuiltWith(BaseModel):
    """What the source was called with."""

    model_config = ConfigDict(strict=True)
    num_classes: int | None = None
    in_channels: int | None = None
    seed: int = 0


class Tensors(BaseModel):
    """What the .safetensors file can't hold (tensors.py)."""

    model_config = ConfigDict(strict=True)
    sha256: str
    aliases: dict[str, str] = {}
    layouts: dict[str, str] = {}
    frozen: list[str] = []
    other_buffers: dict[str, str] = {}


class Modes(BaseModel):
    """training: of the network. others: the modules in the other mode."""

    model_config = ConfigDict(strict=True)
    training: bool
    others: list[str] = []


class Table(BaseModel):
    """The part of X.json that `rebuild` needs."""

    model_config = ConfigDict(strict=True)
    model: str
    source_hash: str
    bnbench: str
    built_with: BuiltWith
    changes: list[dict[str, Any]]
    tensors: Tensors
    modes: Modes


def read_table(path: str | Path) -> Table:
    """X.json. Raises ResultsError where it is not there, is cut, or is none of ours."""
    table = paths_of(path).table
    try:
        content = json.loads(read_text(table))
    except OSError as error:
        raise ResultsError(
            f"{table}: can't be read: {error.strerror or error}.",
            fix="the name that --save was given, without .safetensors or .json.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ResultsError(
            f"{table}: it is no whole JSON file: {error}.", fix="copy it or save it again."
        ) from None
    if not isinstance(content, dict) or "changes" not in content or "format" not in content:
        raise ResultsError(f"{table}: no bnbench wrote it.", fix="name a file that --save wrote.")
    if content["format"] != FORMAT:
        raise ResultsError(
            f"{table}: its form is {content['format']!r}, and this bnbench {bnbench.__version__} reads {FORMAT}.",
            f"It was written by bnbench {content.get('bnbench')}.",
            "install that version, or save it again.",
        )
    try:
        return Table.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ResultsError(f"{table}: {place}: {first['msg']}.", fix="save it again.") from None


def check_source(table: Table, source_hash: str, path: str | Path, word: str) -> None:
    """Raises ResultsError where the network's source has changed since it was saved."""
    if table.source_hash != source_hash:
        was = f" (it was saved from {table.model})" if table.model != word else ""
        raise ResultsError(
            f"{paths_of(path).table}: the source of {word} is another one than when it was saved{was}.",
            f"Its hash was {table.source_hash or 'not kept'} and is {source_hash}.",
            "bring the old source back, or allow_changed=True if it builds the same network still.",
        )


def rebuild_in(
    model: nn.Module, table: Table, path: str | Path, entries: tuple[Entry, ...] = ()
) -> nn.Module:
    """Do to a network what the file says, and give it the file's tensors. It is changed in place, and returned.

    model: as its source builds it. entries: normalizers beside the registered ones. Raises ResultsError where the files
    do not fit each other or the network.
    """
    files = paths_of(path)
    tensors = read_tensors(files.tensors)
    _check_pair(files, table)
    state = State(
        tensors,
        table.tensors.aliases,
        table.tensors.layouts,
        tuple(table.tensors.frozen),
        table.tensors.other_buffers,
    )
    limit = sum(tensor.numel() for tensor in tensors.values()) + _SPARE
    try:
        with left_as_found(torch.device("cpu")):
            model = apply(table.changes, model, Allowed(limit, entries))
    except BnbenchError as error:
        raise ResultsError(f"{files.table}: {error.what}", error.why, error.fix) from error
    put_state(model, state, files.tensors)
    others = set(table.modes.others)
    for name, module in model.named_modules():
        module.training = norm_of(module).training = table.modes.training != (name in others)
    return model


def _check_pair(files: Saved, table: Table) -> None:
    if digest_of(files.tensors) != table.tensors.sha256:
        raise ResultsError(
            f"{files.tensors}: it is not the file that {files.table.name} was saved with.",
            "Its SHA-256 is another one.",
            "copy both files again, or save them again.",
        )
