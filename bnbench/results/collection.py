"""The folder around the results of a collection: claims.json says which studies are in it, in their order."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnbench.base.errors import ResultsError
from bnbench.base.files import read_text, to_json, write_whole
from bnbench.results.files import PLAN, SCHEMA_VERSION, SUMMARY_JSON

#: The file that makes a folder one of a collection.
COLLECTION = "claims.json"


@dataclass(frozen=True)
class CollectionFolder:
    """name: of the collection. folders: of its studies that have results."""

    path: Path
    name: str
    folders: tuple[Path, ...]


def write_collection(path: Path, name: str, folders: Sequence[Path]) -> None:
    """Keep which studies belong to it, by the names of their folders. Raises ResultsError."""
    values = {"schema_version": SCHEMA_VERSION, "collection": name, "studies": [f.name for f in folders]}
    write_whole(path / COLLECTION, to_json(values))


def read_collection(path: Path) -> CollectionFolder | None:
    """The folder of a collection; None for any other. Raises ResultsError where its file can't be read."""
    file = path / COLLECTION
    if not os.path.lexists(file):
        return None
    try:
        values = json.loads(read_text(file))
        name, studies = str(values["collection"]), [str(study) for study in values["studies"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"{file}: can't be read as a list of studies: {type(error).__name__}: {error}."
        raise ResultsError(
            message, fix="`bnbench compare` with the same collection writes it again."
        ) from None
    folders = [path / study for study in studies if Path(study).name == study]
    there = tuple(
        folder for folder in folders if (folder / PLAN).exists() or (folder / SUMMARY_JSON).exists()
    )
    if not there:
        raise ResultsError(
            f"{path}: none of its studies has results: {', '.join(studies)}.",
            fix="`bnbench compare` with the same collection trains them.",
        )
    return CollectionFolder(path, name, there)
