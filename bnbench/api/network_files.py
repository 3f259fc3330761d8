"""What `convert` and `fold` write: --save and --export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bnbench.base.user_code import guarded

if TYPE_CHECKING:
    from bnbench.network.files import Origin, Savable
    from bnbench.network.source import LoadedModel

    Done = TypeVar("Done", bound=Savable)


def check_files(save: Path | None, export: Path | None, *, force: bool) -> None:
    """Raises ResultsError before the work where a file is there already."""
    from bnbench.network.files.export import check_export
    from bnbench.network.files.save import check_free, paths_of

    if save is not None and not force:
        check_free(paths_of(save).tensors)
        check_free(paths_of(save).table)
    if export is not None:
        check_export(export, force)


def origin_of(loaded: LoadedModel) -> Origin:
    """What `rebuild` needs to know of a network that a word named."""
    from bnbench.network.files import Origin

    wanted = loaded.wanted
    return Origin(loaded.word, loaded.source_hash, wanted.num_classes, wanted.in_channels, wanted.seed)


def write_files(
    done: Done, inputs: Callable[[int], Any], save: Path | None, export: Path | None, *, force: bool
) -> tuple[Done, tuple[str, ...]]:
    """Export and save. Returns the result with the proof of the export, and sentences on what was written.

    Nothing is written where a proof has failed: such a network is not to be used. Raises ResultsError.
    """
    if save is None and export is None:
        return done, ()
    if any(proof.passed is False for proof in done.proofs):
        return done, ("nothing is written: a proof has failed",)
    said: list[str] = []
    if export is not None:
        with guarded():
            proof = done.export(export, inputs, force=force)
        done = replace(done, proofs=(*done.proofs, proof))  # type: ignore[type-var]
        if proof.passed:
            said.append(f"{export} is written")
    if save is not None:
        files = done.save(save, force=force)
        said.append(
            f"{files.tensors} and {files.table.name} are written: bnbench.rebuild(MODEL, {str(save)!r})"
        )
    return done, tuple(said)
