"""The user's code on its way to a worker: the files that a study's plugins reach, and the words that load them.

Where the worker finds the very same files in the same places it takes those. Elsewhere it unpacks what came along.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnbench.api.plugins import Names, load_same
from bnbench.base.errors import BnbenchError
from bnbench.base.files import write_file
from bnbench.base.own_modules import digest, file_digest
from bnbench.base.reached import reach
from bnbench.study import Study

#: How the names of modules end that can't travel.
_BUILT = (".so", ".pyd", ".dll")


@dataclass(frozen=True)
class Luggage:
    """files: content by "<number of the folder>/<path in it>". folders: where they lie here.

    sources: plugins, words of layers, words of networks, as `Names` has them. content: what the worker must have
    loaded in the end.
    """

    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    folders: tuple[str, ...] = ()
    sources: tuple[tuple[str, ...], ...] = ((), (), ())
    content: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """All but the files, as plain values."""
        return {"folders": self.folders, "sources": self.sources, "content": self.content}

    @classmethod
    def of(cls, values: Mapping[str, Any], files: Mapping[str, bytes]) -> Luggage:
        """From plain values and files."""
        sources = tuple(tuple(words) for words in values["sources"])
        return cls(files, tuple(values["folders"]), sources, values["content"])

    @contextmanager
    def unpacked(self) -> Iterator[Callable[[], None] | None]:
        """Inside, what the files import is found; yields what loads them. Raises PluginError where they differ."""
        if not any(self.sources):
            yield None
            return
        here = all(file_digest(path) == digest(self.files[name]) for name, path in self._places().items())
        folders = self.folders if here else _unpack(self.files, len(self.folders))
        before = list(sys.path)
        sys.path[:] = [*before, *(folder for folder in folders if folder not in before)]
        try:
            yield lambda: self._load(folders)
        finally:
            sys.path[:] = before

    def _load(self, folders: Sequence[str]) -> None:
        moved = dict(zip(self.folders, folders, strict=True))
        plugins, layers, networks = (tuple(_moved(word, moved) for word in words) for words in self.sources)
        load_same([Path(path) for path in plugins], layers, networks, self.content)

    def _places(self) -> dict[str, str]:
        """Where each file lies on the machine that it comes from."""
        places = {}
        for name in self.files:
            number, _, path = name.partition("/")
            places[name] = os.path.join(self.folders[int(number)], path)
        return places


def _moved(word: str, moved: Mapping[str, str]) -> str:
    """The word with the folder of its file as it is here."""
    for old in sorted(moved, key=len, reverse=True):
        if word.startswith(old + os.sep):
            return moved[old] + word[len(old) :]
    return word


def _unpack(files: Mapping[str, bytes], count: int) -> tuple[str, ...]:
    """The folders that the files now lie in: for as long as this process lives."""
    root = tempfile.mkdtemp(prefix="bnbench-plugins-")
    weakref.finalize(sys.modules[__name__], shutil.rmtree, root, True)
    for name, content in files.items():
        path = Path(root, *name.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
    return tuple(os.path.join(root, str(number)) for number in range(count))


def packed(names: Names, study: Study) -> Luggage:
    """What a worker needs to load the same. Raises BnbenchError with all that can't travel."""
    stuck = [
        f"{cell.variant}: it uses what the calling program itself defines or registers"
        for cell in study.cells
        if names.needs_this_process(cell.settings)
    ]
    files: dict[str, bytes] = {}
    folders: dict[str, None] = {}
    starts = [module for modules in names.plugins.values() for module in modules]
    for name, file in reach(starts).files.items():
        if file.endswith(_BUILT) or not file.endswith(".py"):
            stuck.append(
                f"{os.path.relpath(file)}: it is no Python source, and may not run on another machine"
            )
            continue
        folder, path = _place(name, os.path.realpath(file))
        folders.setdefault(folder)
        files[f"{list(folders).index(folder)}/{path}"] = Path(file).read_bytes()
    if stuck:
        raise BnbenchError(
            "what the study needs can't travel to the workers of --executor:\n"
            + "\n".join(f"  {text}" for text in dict.fromkeys(stuck)),
            "A worker is another process: it loads the user's code from its files.",
            "put it into a file: --plugin my_layers.py, norm=my_layers.py:MyNorm or --model my_model.py:Net; or "
            "--executor local.",
        )
    sources = tuple(tuple(_real(str(word)) for word in words) for words in names.sources)
    return Luggage(files, tuple(folders), sources, names.content())


def _real(word: str) -> str:
    """The word with the file's real place, which `_place` has as well."""
    file, dot, rest = word.partition(".py")
    return os.path.realpath(file + dot) + rest if dot and os.path.isfile(file + dot) else word


def _place(name: str, file: str) -> tuple[str, str]:
    """The folder from which a module of that name is imported, and the path of its file in it."""
    parts = re.sub(r"'+$", "", name).split(".")
    for path in ("/".join([*parts, "__init__.py"]), "/".join(parts) + ".py"):
        if file.endswith(os.sep + path.replace("/", os.sep)):
            return file[: -len(path) - 1], path
    return os.path.dirname(file), os.path.basename(file)
