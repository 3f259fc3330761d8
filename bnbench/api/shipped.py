"""A study by its name: a file, or one of those that come with bnbench; and collections: folders of studies."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bnbench
from bnbench.base.errors import ConfigError, Mistake, nearest

_HERE = Path(bnbench.__file__).parent
#: Shipped studies: inside an installed package, beside it in a checkout.
STUDIES = next((folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir()), _HERE)

#: The folder of published findings beside them: each holds a study, and is none (`bnbench replicate`).
FINDINGS = "findings"


def find_study(name: str) -> Path:
    """A file, or the name of a shipped study. Raises ConfigError with the nearest name."""
    path = Path(os.path.expanduser(name))
    if name == "-" or is_readable(path):
        return path
    shipped = {file.stem: file for file in shipped_studies()}
    stem = path.stem if path.suffix in (".yaml", ".yml") else path.name
    if stem in shipped and path.parent in (Path(), Path("configs")):
        return shipped[stem]
    if collection := find_collection(name):
        files = f"{len(collection.files)} studies: {', '.join(file.stem for file in collection.files)}"
        fix = f"`bnbench compare {name}` for all, or name one, such as {collection.files[0]}"
        raise ConfigError([Mistake(name, f"it is a collection of {files}. Fix: {fix}.")])
    if path.is_dir():
        raise ConfigError([Mistake(name, "it is a folder. Fix: name the YAML file in it.")])
    known = [*shipped, *(collection.name for collection in shipped_collections())]
    guess = nearest(stem, known)
    hint = f' Did you mean "{guess}"?' if guess else ""
    raise ConfigError(
        [Mistake(name, f"no such study.{hint} Shipped: {', '.join(known)}; or name a YAML file.")]
    )


@dataclass(frozen=True)
class Collection:
    """A folder of studies that are run together. name: of the folder around their results."""

    name: str
    files: tuple[Path, ...]


def find_collection(name: str) -> Collection | None:
    """A folder with YAML files, or the name of a shipped collection; None where it is neither.

    A results folder is not a collection, although it contains a study. A file of that name comes first.
    """
    path = Path(os.path.expanduser(name))
    if name == "-" or is_readable(path):
        return None
    own = _collection(path)
    if own or path.parent not in (Path(), Path("configs")):
        return own
    return next((shipped for shipped in shipped_collections() if shipped.name == path.name), None)


def shipped_collections() -> list[Collection]:
    """The collections that come with bnbench, by name."""
    if STUDIES == _HERE:  # none are installed
        return []
    folders = [path for path in sorted(STUDIES.iterdir()) if path.is_dir() and path.name != FINDINGS]
    return [collection for folder in folders if (collection := _collection(folder))]


def expanded(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every study with the collection that it comes from, "" for one that is named itself."""
    for name in names:
        collection = find_collection(name)
        if collection is None:
            yield name, ""
        else:
            yield from ((str(file), collection.name) for file in collection.files)


def _collection(folder: Path) -> Collection | None:
    if not folder.is_dir():
        return None
    from bnbench.results.files import (  # late: workers start before anything heavy is loaded
        PLAN,
        SUMMARY_JSON,
    )
    from bnbench.study.names import folder_name

    if any(os.path.lexists(folder / name) for name in (PLAN, SUMMARY_JSON)):
        return None
    files = sorted(
        file for file in folder.iterdir() if file.suffix in (".yaml", ".yml") and is_readable(file)
    )
    return Collection(folder_name(folder.resolve().name), tuple(files)) if files else None


def is_readable(path: Path) -> bool:
    """Whether a study can be read from there: a file, or a pipe such as /dev/fd/63."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def shipped_studies() -> list[Path]:
    """The studies that come with bnbench, by name."""
    return sorted(STUDIES.glob("*.yaml"))
