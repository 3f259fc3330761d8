"""A Python file of the user's, imported under a name of its own; it may import files beside it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

from bnbench.base.own_modules import FINDER, OwnLoader, forget, has_changed, is_elsewhere, is_own
from bnbench.base.reached import Module, reach

#: What to do where a file that is imported by itself imports relatively.
NO_PACKAGE = "import what lies beside it by its name: `from helper import X`, not `from .helper import X`."


@contextmanager
def _nothing(name: str) -> Iterator[None]:
    yield


def import_file(
    path: Path, prefix: str, during: Callable[[str], AbstractContextManager[None]] = _nothing
) -> ModuleType:
    """Run the file as a module called `prefix`, its stem and a hash of its place.

    Its folder is searched first meanwhile. Modules of the user's own that changed since they were loaded are loaded
    again. during: entered with the module's name while the file runs. Raises ImportError where it is
    not a Python file, and whatever the file raises.
    """
    path = path.resolve()
    where = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    stem = re.sub(r"\W", "_", path.stem)
    name = f"{prefix}_{stem}_{where}"
    if not path.name.endswith(".py"):
        raise ImportError("it is not a Python file.")
    spec = importlib.util.spec_from_file_location(name, path, loader=OwnLoader(name, str(path)))
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file.")
    folder = str(path.parent)
    module = importlib.util.module_from_spec(spec)
    with FINDER.importing(folder):
        forget(outdated(Module(name, str(path)), folder))
        sys.modules[name] = module
        try:
            with during(name):
                spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return module


def outdated(module: Module, folder: str) -> set[str]:
    """Modules to load again: another one of that name lies in the folder, or one of them has changed."""
    FINDER.loaded.pop(module.name, None)
    names = {name for name in (*reach([module]).own, *FINDER.loaded) if name in sys.modules}
    tops = {name.partition(".")[0] for name in list(sys.modules)}
    elsewhere = {name for name in tops if is_elsewhere(name, folder)}
    stale = {name for name in list(sys.modules) if name.partition(".")[0] in elsewhere}
    if any(map(has_changed, names)):
        stale |= names
    return stale


def place_of(error: BaseException, path: Path) -> tuple[int | str, str]:
    """The line of that file to blame ("?" where none is), and the file and line of a helper that raised, else ""."""
    file = str(path.resolve())
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or "?", ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    line: int | str = lines[-1] or "?" if lines else "?"
    if isinstance(error, SyntaxError) and error.filename and is_own(error.filename):
        return line, f"{os.path.relpath(error.filename)}:{error.lineno or '?'}"
    own = [frame for frame in frames if os.path.isfile(frame.filename) and is_own(frame.filename)]
    if own and own[-1].filename != file:
        return line, f"{os.path.relpath(own[-1].filename)}:{own[-1].lineno}"
    return line, ""


def line_of(error: BaseException, path: Path) -> int | str:
    """The line of that file to blame: of a syntax error in it, or its last one in the traceback; else "?"."""
    return place_of(error, path)[0]
