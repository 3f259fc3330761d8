"""A study by its name: a file, or one of those that come with bnbench."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import bnbench
from bnbench.base.errors import ConfigError, Mistake, nearest

_HERE = Path(bnbench.__file__).parent
#: Shipped studies: inside an installed package, beside it in a checkout.
STUDIES = next((folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir()), _HERE)


def find_study(name: str) -> Path:
    """A file, or the name of a shipped study. Raises ConfigError with the nearest name."""
    path = Path(os.path.expanduser(name))
    if name == "-" or is_readable(path):
        return path
    shipped = {file.stem: file for file in shipped_studies()}
    stem = path.stem if path.suffix in (".yaml", ".yml") else path.name
    if stem in shipped and path.parent in (Path(), Path("configs")):
        return shipped[stem]
    if path.is_dir():
        raise ConfigError([Mistake(name, "it is a folder. Fix: name the YAML file in it.")])
    guess = nearest(stem, shipped)
    hint = f' Did you mean "{guess}"?' if guess else ""
    raise ConfigError(
        [Mistake(name, f"no such study.{hint} Shipped: {', '.join(shipped)}; or name a YAML file.")]
    )


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
