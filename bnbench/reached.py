"""Which of the user's own modules a piece of code reaches: what its source imports, and so on, wherever it does so.

Nothing is executed. What can't be read off the source (a name that is put together) is guessed generously: a module
too many costs a training, one too few a wrong result.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from bnbench.own_modules import file_digest, file_of, find_unloaded, is_own, loaded_digest

#: Calls that load code by a name or a path.
_LOADERS = {
    "import_module", "__import__", "spec_from_file_location", "run_path", "run_module", "exec", "execfile",
    "iter_modules", "walk_packages", "SourceFileLoader",
}  # fmt: skip
_NAME = re.compile(r"\.*[A-Za-z_][\w.]*")
#: The name of a module that `python_file` made.
_OF_A_FILE = re.compile(r"bnbench_[a-z]+_(.+)_[0-9a-f]{8}'*")
#: How deep into lists, mappings and attributes of a built network to look.
_DEPTH = 4


@dataclass(frozen=True)
class Module:
    """One's own module. name: as it is imported; package: what its relative imports start from."""

    name: str
    file: str
    package: str = ""
    folders: tuple[str, ...] = ()


@dataclass
class Reach:
    """own: content of every own module that was reached, by name. installed: top-level names of the others."""

    own: dict[str, str] = field(default_factory=dict)
    installed: set[str] = field(default_factory=set)

    def content(self) -> dict[str, str]:
        """The same without the place of a plugin in its name: a project may be moved."""
        found: dict[str, str] = {}
        for name, value in sorted(self.own.items()):
            match = _OF_A_FILE.fullmatch(name)
            found[_free(f"{match[1]}.py" if match else name, found)] = value
        return found


def reach(starts: Iterable[Module]) -> Reach:
    """Follow the imports of these modules, and of those that they import, and so on."""
    found, waiting, seen = Reach(), list(starts), set[str]()
    while waiting:
        module = waiting.pop()
        if module.file in seen:
            continue
        seen.add(module.file)
        found.own[_free(module.name, found.own)] = loaded_digest(module.name) or file_digest(module.file)
        names, files = _imports(module)
        for name in sorted(names):
            for part in _parents(name):
                other = locate(part)
                if other is None:
                    if _is_installed(part):
                        found.installed.add(part.partition(".")[0])
                    break
                if other.file:
                    waiting.append(other)
        waiting += [Module(Path(file).name, file) for file in files]
    return found


def _free(name: str, taken: Mapping[str, str]) -> str:
    while name in taken:
        name += "'"
    return name


def _parents(name: str) -> list[str]:
    """a.b.c: a, a.b, a.b.c, as importing it executes them."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def locate(name: str) -> Module | None:
    """One's own module of that name, loaded or not; None where there is none. file is "" for a folder of modules."""
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
        file, path = spec.origin if spec.has_location else None, spec.submodule_search_locations
    if file and not is_own(file):
        return None
    if not file and path is None:
        return None
    folders = tuple(path or ())
    return Module(name, file or "", name if folders else name.rpartition(".")[0], folders)


def _is_installed(name: str) -> bool:
    top = name.partition(".")[0]
    return top not in sys.stdlib_module_names and top != "bnbench"


def module_of(module: ModuleType) -> Module | None:
    """A loaded module, if it is one's own."""
    return module_named(module.__name__)


def loaded_modules(found: Reach, start: Module) -> list[ModuleType]:
    """Those of one's own modules that are loaded."""
    names = [start.name, *found.own]
    return [module for name in names if isinstance(module := sys.modules.get(name), ModuleType)]


def module_named(name: str) -> Module | None:
    """The loaded module of that name, if it is one's own."""
    found = locate(name)
    return found if found and found.file else None


def _imports(module: Module) -> tuple[set[str], set[str]]:
    """Names of modules that a file may import, and further files that it may execute."""
    try:
        state = os.stat(module.file)
        told = _read(module.file, (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino))
    except OSError:
        return set(), set()
    names = {_absolute(name, module.package) for name in told.names}
    for base, parts in told.starred:
        start = _absolute(base, module.package)
        names |= {start, *(f"{start}.{part}" for part in parts)}
        if "*" in parts:
            names |= _listed(start)
    files = {file for name in told.files for file in _beside(name, module.file)}
    if told.dynamic:
        names |= {_absolute(name, module.package) for name in told.words}
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
    state = os.stat(package.file)
    told = _read(package.file, (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino))
    return {f"{name}.{word}" for word in told.listed}


def _beside(name: str, file: str) -> Iterator[str]:
    for folder in (os.path.dirname(file), os.getcwd()):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and is_own(path):
            yield os.path.realpath(path)
            return


@dataclass(frozen=True)
class _Text:
    """What a source says of modules. starred: `from base import parts`; words: texts that may be names."""

    names: frozenset[str] = frozenset()
    starred: tuple[tuple[str, tuple[str, ...]], ...] = ()
    dynamic: bool = False
    words: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()


@functools.lru_cache(1024)
def _read(file: str, state: tuple[int, ...]) -> _Text:
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (
        OSError,
        ValueError,
        SyntaxError,
        RecursionError,
    ):  # an extension module, or one that does not load
        return _Text()
    names, words, listed = set[str](), set[str](), set[str]()
    starred: list[tuple[str, tuple[str, ...]]] = []
    dynamic = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            starred.append((base, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Name | ast.Attribute):
            dynamic |= (node.id if isinstance(node, ast.Name) else node.attr) in _LOADERS
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
            words.add(node.value)
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and _names_all(node):
            listed |= {
                n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
    return _Text(
        frozenset(names),
        tuple(starred),
        dynamic,
        frozenset(word.rstrip(".") for word in words if _NAME.fullmatch(word)) if dynamic else frozenset(),
        frozenset(word for word in words if word.endswith(".py")) if dynamic else frozenset(),
        frozenset(listed),
    )


def _names_all(node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def modules_behind(values: Iterable[Any]) -> list[Module]:
    """One's own modules that define these classes, functions and modules, or those that they hold."""
    found: dict[str, Module] = {}
    seen: set[int] = set()
    for value in values:
        _look(value, _DEPTH, found, seen)
    return list(found.values())


def _look(value: Any, depth: int, found: dict[str, Module], seen: set[int]) -> None:
    if depth < 0 or id(value) in seen or isinstance(value, str | bytes | int | float | None):
        return
    seen.add(id(value))
    for inner in _inside(value, found):
        _look(inner, depth - 1, found, seen)


def _inside(value: Any, found: dict[str, Module]) -> Iterator[Any]:
    """Note where a value comes from; what it holds."""
    if isinstance(value, ModuleType):
        _note(getattr(value, "__name__", ""), file_of(value), found)
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, FunctionType):
        _note(value.__module__, value.__code__.co_filename, found)
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_full(cell))
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        yield getattr(value, "__wrapped__", None)
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, type):
        for kind in inspect.getmro(value):
            _note(kind.__module__, _file_of_class(kind), found)
    elif isinstance(value, Mapping):
        yield from list(dict.values(value)) if isinstance(value, dict) else ()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from list(value)[:10_000]
    elif type(value).__module__ != "bnbench.registry":  # which holds the factories of all plugins
        yield type(value)
        state = getattr(value, "__dict__", None)
        yield from list(state.values()) if isinstance(state, dict) else ()


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _file_of_class(kind: type) -> str | None:
    for member in vars(kind).values():
        if isinstance(member, FunctionType) and member.__module__ == kind.__module__:
            return member.__code__.co_filename
    module = sys.modules.get(kind.__module__)
    return file_of(module) if isinstance(module, ModuleType) else None


def _note(name: Any, file: str | None, found: dict[str, Module]) -> None:
    if not isinstance(name, str) or not file or not os.path.isfile(file) or not is_own(file):
        return
    loaded = module_named(name)
    same = loaded is not None and os.path.realpath(loaded.file) == os.path.realpath(file)
    found.setdefault(os.path.realpath(file), loaded if same and loaded else Module(Path(file).name, file))
