"""The user's own modules that a piece of code reaches: the imports in its source, their imports, and so on.

Nothing is executed. What can't be read off the source (a name that is put together) is guessed generously: a module
too many costs a training, one too few a wrong result.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from bnbench.base.own_modules import file_digest, file_of, find_unloaded, is_own, loaded_digest, on_disk
from bnbench.base.source_text import SourceText, read_source

#: The name of a module that `user_file.import_file` made.
_OF_A_FILE = re.compile(r"bnbench_[a-z]+_(.+)_[0-9a-f]{8}'*")


@dataclass(frozen=True)
class Module:
    """A module of the user's own. name: as it is imported; package: the base of its relative imports."""

    name: str
    file: str
    package: str = ""
    folders: tuple[str, ...] = ()


@dataclass
class Reach:
    """own: content of every own module that was reached, by name. installed: top-level names of the others.

    files: of the own modules, by their names.
    """

    own: dict[str, str] = field(default_factory=dict)
    installed: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)

    def content(self) -> dict[str, str]:
        """The same without the place of a plugin in its name: a project may be moved."""
        contents: dict[str, str] = {}
        for name, value in sorted(self.own.items()):
            match = _OF_A_FILE.fullmatch(name)
            contents[_free(f"{match[1]}.py" if match else name, contents)] = value
        return contents


def reach(starts: Iterable[Module]) -> Reach:
    """Follow the imports of these modules, and of those that they import, and so on."""
    reached, waiting, seen = Reach(), list(starts), set[tuple[str, str]]()
    while waiting:
        module = waiting.pop()
        key = (module.file, module.name if zipfile.is_zipfile(module.file) else "")
        if key in seen:
            continue
        seen.add(key)
        name = _free(module.name, reached.own)
        reached.own[name] = loaded_digest(module.name) or file_digest(module.file)
        reached.files[name] = module.file
        imported, files = _imports(module)
        for name in sorted(imported):
            for part in _parents(name):
                other = locate(part) or _nearby(part, module)
                if other is None:
                    if _is_installed(part):
                        reached.installed.add(part.partition(".")[0])
                    break
                if other.file:
                    waiting.append(other)
        waiting += [Module(Path(file).name, file) for file in files]
    return reached


def _free(name: str, taken: Mapping[str, str]) -> str:
    while name in taken:
        name += "'"
    return name


def _parents(name: str) -> list[str]:
    """a.b.c: a, a.b, a.b.c, as importing it executes them."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def locate(name: str) -> Module | None:
    """The user's module of that name, loaded or not; None if there is none. file is "" for a folder of modules."""
    loaded = sys.modules.get(name)
    if isinstance(loaded, ModuleType):
        file, path = file_of(loaded), getattr(loaded, "__path__", None)
    else:
        parent, _, _ = name.rpartition(".")
        within = None
        if parent:
            package = locate(parent)
            if package is None or not package.folders:
                return None
            within = list(package.folders)
        if name in sys.stdlib_module_names or not (spec := find_unloaded(name, within)):
            return None
        file, path = on_disk(spec.origin) if spec.has_location else None, spec.submodule_search_locations
    if file and not is_own(file):
        return None
    if not file and path is None:
        return None
    folders = tuple(path or ())
    return Module(name, file or "", name if folders else name.rpartition(".")[0], folders)


def two_of_a_name(name: str, folder: str) -> list[str]:
    """The file of that name in the folder and the one that is loaded in its place; nothing where they are one."""
    if "." in name or name in sys.stdlib_module_names:
        return []
    spec = PathFinder.find_spec(name, [folder])
    there = on_disk(spec.origin) if spec and spec.has_location else None
    loaded = sys.modules.get(name)
    if isinstance(loaded, ModuleType):
        here = file_of(loaded)
    else:
        other = find_unloaded(name, None)
        here = on_disk(other.origin) if other and other.has_location else None
    if not there or not here or not is_own(there) or os.path.realpath(there) == os.path.realpath(here):
        return []
    return sorted(os.path.relpath(file) for file in (there, here))


def _nearby(name: str, module: Module) -> Module | None:
    """The module of a name that leads nowhere yet, as the code extends sys.path when it runs.

    It is looked for in the module's own folder, and in those that its source names.
    """
    if "." in name or name in sys.stdlib_module_names or name in sys.modules or find_unloaded(name, None):
        return None
    here = os.path.dirname(os.path.realpath(module.file))
    bases = (here, os.path.dirname(here), os.getcwd())
    places = [here, *(os.path.join(base, text) for text in sorted(_text_of(module).texts) for base in bases)]
    spec = PathFinder.find_spec(name, [place for place in dict.fromkeys(places) if os.path.isdir(place)])
    file = on_disk(spec.origin) if spec and spec.has_location else None
    return Module(name, file) if file and is_own(file) else None


def _text_of(module: Module) -> SourceText:
    try:
        state = os.stat(module.file)
    except OSError:
        return SourceText()
    return read_source(module.file, (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino))


def _is_installed(name: str) -> bool:
    top = name.partition(".")[0]
    return top not in sys.stdlib_module_names and top != "bnbench"


def module_of(module: ModuleType) -> Module | None:
    """A loaded module, if it is the user's own."""
    return module_named(module.__name__)


def loaded_modules(reached: Reach, start: Module) -> list[ModuleType]:
    """The reached modules that are loaded."""
    names = [start.name, *reached.own]
    return [module for name in names if isinstance(module := sys.modules.get(name), ModuleType)]


def module_named(name: str) -> Module | None:
    """The loaded module of that name, if it is the user's own."""
    module = locate(name)
    return module if module and module.file else None


def _imports(module: Module) -> tuple[set[str], set[str]]:
    """Names of modules that a file may import, and further files that it may execute."""
    text = _text_of(module)
    names = {_absolute(name, module.package) for name in text.names}
    for base, parts in text.starred:
        start = _absolute(base, module.package)
        names |= {start, *(f"{start}.{part}" for part in parts)}
        if "*" in parts:
            names |= _listed(start)
    files = {file for name in text.files for file in _beside(name, module.file)}
    if text.dynamic:
        names |= {_absolute(name, module.package) for name in text.words}
        if module.package and module.folders:
            names |= _submodules(module)
        for name in list(names):
            if (package := locate(name)) and package.folders:
                names |= _submodules(package)
    return {name for name in names if name}, files


def _absolute(name: str, package: str) -> str:
    """A relative name (".b") as seen from a package; "" where it leads outside."""
    stripped = name.lstrip(".")
    level = len(name) - len(stripped)
    if not level:
        return stripped.strip(".")
    parts = package.split(".") if package else []
    if level - 1 >= len(parts):
        return ""
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{stripped}".strip(".")


def _submodules(package: Module) -> set[str]:
    names = set()
    for folder in package.folders:
        for path in Path(folder).iterdir() if os.path.isdir(folder) else ():
            stem = path.name.partition(".")[0]
            if stem.isidentifier() and (
                path.suffix in (".py", ".so", ".pyd") or (path / "__init__.py").is_file()
            ):
                names.add(f"{package.name}.{stem}")
    return names


def _listed(name: str) -> set[str]:
    """What `from package import *` loads: the submodules that its __all__ names."""
    package = locate(name)
    if package is None or not package.folders or not package.file:
        return set()
    return {f"{name}.{word}" for word in _text_of(package).listed}


def _beside(name: str, file: str) -> Iterator[str]:
    for folder in (os.path.dirname(file), os.getcwd()):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and is_own(path):
            yield os.path.realpath(path)
            return
