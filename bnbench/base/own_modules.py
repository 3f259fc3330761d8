"""The user's own modules: next to a plugin, loaded from their present source, and identified by their content.

Own is what lies outside the standard library, installed packages and bnbench. A package that is installed to be
edited (`pip install -e`) lies outside, too.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import bnbench

_INSTALLED = {"site-packages", "dist-packages"}
#: Own modules that were loaded before this file was are believed to be as their files are, if these are older.
_LOADED_AT = time.time()


@functools.cache
def _roots() -> tuple[str, ...]:
    """Where the standard library and bnbench lie."""
    places = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__)]
    return tuple({os.path.realpath(place) + os.sep for place in [*places, os.path.dirname(bnbench.__file__)]})


@functools.lru_cache(4096)
def is_own(file: str) -> bool:
    """Whether a module of that file is the user's own."""
    real = os.path.realpath(file)
    return not (_INSTALLED & set(Path(real).parts)) and not real.startswith(_roots())


def digest(content: bytes) -> str:
    """16 hex digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def file_digest(file: str) -> str:
    """Of the file as it is now; "" where it can't be read."""
    try:
        return digest(Path(file).read_bytes())
    except OSError:
        return ""


class OwnLoader(SourceFileLoader):
    """From the source alone: Python takes old bytecode for current where size and time are equal."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source, and note its content."""
        source = self.get_data(self.path)
        FINDER.loaded[fullname] = digest(source)
        return self.source_to_code(source, self.path)


class OwnModules:
    """A finder on `sys.meta_path`: the modules that Python finds, then the modules next to a plugin.

    While a plugin is imported its folder comes first, as it does for a script. loaded: by module, the content that was
    loaded.
    """

    def __init__(self) -> None:
        self.folders: dict[str, None] = {}
        self.loaded: dict[str, str] = {}
        self._first: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` has it."""
        if name.partition(".")[0] in sys.stdlib_module_names:
            return None
        spec = self.locate(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader) and is_own(spec.loader.path):
            spec.loader = OwnLoader(spec.loader.name, spec.loader.path)
        return spec

    def locate(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What would be loaded; nothing is."""
        last: ModuleSpec | None = None
        if path is None and self._first:
            spec = PathFinder.find_spec(name, self._first)
            if spec and spec.loader and spec.origin:
                return spec
            last = spec  # a folder without __init__.py: whatever is more than that comes before it
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is not self and find and (spec := find(name, path, target)):
                return spec if spec.origin or not last else last
        if path is None and last is None:
            last = PathFinder.find_spec(name, list(self.folders))
        return last

    @contextmanager
    def importing(self, folder: str) -> Iterator[None]:
        """Inside, imports look in that folder first; afterwards, last."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        importlib.invalidate_caches()  # files may be new
        self.folders = {folder: None, **self.folders}  # the last one first
        self._first.insert(0, folder)
        try:
            yield
        finally:
            self._first.remove(folder)


#: There is one, as there is one `sys.modules`.
FINDER = OwnModules()


def file_of(module: ModuleType) -> str | None:
    """The file that it was loaded from, if that exists; None for a namespace package or a built-in module."""
    return on_disk(_origin(module))


def on_disk(file: str | None) -> str | None:
    """The file, or the archive that it is a member of ("lib.zip/helper.py"); None where neither is there."""
    while file and not os.path.isfile(file):
        parent = os.path.dirname(file)
        file = parent if parent != file and not os.path.isdir(parent) else None
    return file or None


def _origin(module: ModuleType) -> str | None:
    spec = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None) or (getattr(spec, "origin", None) if spec else None)
    return file if isinstance(file, str) else None


def has_changed(name: str) -> bool:
    """Whether a loaded module is the user's own and its file may have changed since."""
    module = sys.modules.get(name)
    file = file_of(module) if isinstance(module, ModuleType) else None
    if file is None or not is_own(file):
        return False
    if name in FINDER.loaded:
        return FINDER.loaded[name] != file_digest(file)
    try:
        state = os.stat(file)
    except OSError:
        return False
    return max(state.st_mtime, state.st_ctime) > _LOADED_AT


def is_elsewhere(name: str, folder: str) -> bool:
    """Whether a loaded module of the user's own has the name of another one that lies in that folder."""
    module = sys.modules.get(name)
    here = (
        _first_of(_origin(module), getattr(module, "__path__", ())) if isinstance(module, ModuleType) else ""
    )
    if not here or not is_own(here):
        return False
    spec = PathFinder.find_spec(name, [folder])
    there = _first_of(spec.origin, spec.submodule_search_locations) if spec else ""
    return bool(there) and os.path.realpath(there) != os.path.realpath(here)


def _first_of(file: str | None, folders: Iterable[str] | None) -> str:
    return file or next(iter(folders or ()), "")


def loaded_digest(name: str) -> str | None:
    """The content that a module was loaded from, where it is known."""
    return FINDER.loaded.get(name) if name in sys.modules else None


def forget(names: Iterable[str]) -> None:
    """Let those modules be loaded again when they are next imported."""
    for name in names:
        sys.modules.pop(name, None)
        FINDER.loaded.pop(name, None)


def find_unloaded(name: str, path: Any) -> ModuleSpec | None:
    """Where Python would load a module from; nothing is imported."""
    try:
        return FINDER.locate(name, path)
    except Exception:  # a finder of the user's may raise anything
        return None
