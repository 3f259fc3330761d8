"""A network that was converted or folded, in two files: X.safetensors and X.json.

X.safetensors is the state_dict. X.json has the table of sites, the proofs, what was changed (changes.py), and where the
network came from. Nothing is pickled, and nothing in the two files can run code.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

import bnbench
from bnbench.base.errors import ResultsError
from bnbench.base.files import to_json, write_file, written_aside
from bnbench.base.network_records import Proof, SiteRecord
from bnbench.base.process_state import left_as_found
from bnbench.base.registry import Entry
from bnbench.network.convert.copying import copied
from bnbench.network.convert.references import held_beside
from bnbench.network.files.changes import Change, apply, differences
from bnbench.network.files.parts import Allowed, NotDescribed
from bnbench.network.files.savable import Origin
from bnbench.network.files.tensors import State, dtype_name, put_state, state_of

#: Of the files; a later form has another number.
FORMAT = 1
_WHERE = "--save with a name in a folder that you may write to."


class Result(Protocol):
    """What `convert` and `fold` return, as far as files need it."""

    @property
    def model(self) -> nn.Module:
        """The network."""
        raise NotImplementedError

    @property
    def sites(self) -> Sequence[SiteRecord]:
        """Its normalizations."""
        raise NotImplementedError

    @property
    def proofs(self) -> Sequence[Proof]:
        """What was checked."""
        raise NotImplementedError


@dataclass(frozen=True)
class Saved:
    """The two files that `save` wrote."""

    tensors: Path
    table: Path


def paths_of(path: str | Path) -> Saved:
    """X, X.safetensors and X.json all mean X.safetensors and X.json."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    return Saved(Path(f"{stem}.safetensors"), Path(f"{stem}.json"))


def check_free(path: Path, word: str = "--save") -> None:
    """Raises ResultsError where there is such a file. word: the option that named it."""
    if path.exists() or path.is_symlink():
        raise ResultsError(
            f"{path}: there is such a file.", fix=f"another name for {word}, or --force to write over it."
        )


def save(
    result: Result,
    path: str | Path,
    original: nn.Module,
    origin: Origin | None = None,
    *,
    entries: tuple[Entry, ...] = (),
    force: bool = False,
) -> Saved:
    """Write the network and its table, each whole or not at all.

    original: the network as its source builds it, before anything was done to it. entries: normalizers of the user's
    own. force: write over files.
    Raises ResultsError where a file is there, can't be written, or could not give this network again.
    """
    files, origin = paths_of(path), origin or Origin()
    if not force:
        check_free(files.tensors)
        check_free(files.table)
    state, allowed = state_of(result.model), Allowed(entries=entries)
    try:
        changes = differences(original, result.model, allowed)
    except NotDescribed as error:
        raise ResultsError(
            f"The network can't be saved: {error}.",
            "Its file could not give it again.",
            "save its state_dict by torch.save.",
        ) from None
    _check_again(original, result.model, changes, state, allowed)
    with _disk_errors(files), written_aside(files.table) as table, written_aside(files.tensors) as tensors:
        _write_tensors(state, tensors)
        content = _table(result, origin, changes, state, digest_of(tensors))
        write_file(table, to_json(content).encode())
    return files


@contextmanager
def _disk_errors(files: Saved) -> Iterator[None]:
    """Raises ResultsError in place of an OSError, and of safetensors' own error for one."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        found = re.search(r"os error (\d+)", str(error))
        number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        why = os.strerror(number) if number else str(error)
        full = number in (errno.ENOSPC, errno.EDQUOT)
        raise ResultsError(
            f"{files.tensors}: can't be written: {why}.",
            "What stood there before is as it was.",
            "free some space." if full else _WHERE,
        ) from None


def _write_tensors(state: State, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(state.tensors), path, metadata={"format": "pt", "bnbench": bnbench.__version__})


def digest_of(path: Path) -> str:
    """The SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_again(
    original: nn.Module, model: nn.Module, changes: Sequence[Change], state: State, allowed: Allowed
) -> None:
    """Raises ResultsError where the changes and the tensors do not give the same network."""
    with left_as_found(torch.device("cpu")):
        trial = apply(changes, copied(original), allowed)
    put_state(trial, state, Path("the files"))
    try:
        left = differences(trial, model, allowed)
    except NotDescribed as error:
        left = ({"place": "", "reason": str(error)},)
    if not left and (beside := set(held_beside(trial)) ^ set(held_beside(model))):
        left = ({"place": min(beside)[0], "attribute": min(beside)[1]},)
    if left:
        raise ResultsError(
            f"The network can't be saved: {left[0]} is lost when it is built again.",
            fix="save its state_dict by torch.save.",
        )


def _table(
    result: Result, origin: Origin, changes: Sequence[Change], state: State, digest: str
) -> dict[str, Any]:
    """The content of X.json."""
    model = result.model
    modes = model.training, [n for n, m in model.named_modules() if m.training != model.training]
    return {
        "format": FORMAT,
        "model": origin.word,
        "source_hash": origin.source_hash,
        "built_with": {
            "num_classes": origin.num_classes,
            "in_channels": origin.in_channels,
            "seed": origin.seed,
        },
        "bnbench": bnbench.__version__,
        "torch": torch.__version__,
        "dtypes": dict(Counter(dtype_name(tensor) for tensor in state.tensors.values())),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sites": [flat(site) for site in result.sites],
        "proofs": [asdict(proof) for proof in result.proofs],
        "changes": list(changes),
        "tensors": {
            "sha256": digest,
            "aliases": dict(state.aliases),
            "layouts": dict(state.layouts),
            "frozen": list(state.frozen),
            "other_buffers": dict(state.others),
        },
        "modes": {"training": modes[0], "others": modes[1]},
    }


def flat(site: SiteRecord) -> dict[str, Any]:
    """A site as JSON shows it: its details stand beside its other fields."""
    values = asdict(site)
    details = values.pop("details")
    return {**values, **details}
