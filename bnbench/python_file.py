"""A Python file of the user's, imported under a name of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def import_file(path: Path, prefix: str) -> ModuleType:
    """Run the file as a module called `prefix`, its stem and a hash of its place.

    Raises ImportError where it is not a Python file, and whatever the file raises.
    """
    where = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"{prefix}_{path.stem}_{where}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def line_of(error: BaseException, path: Path) -> int | str:
    """The line of that file to blame: of a syntax error in it, or its last one in the traceback; else "?"."""
    if isinstance(error, SyntaxError) and error.filename == str(path.resolve()):
        return error.lineno or "?"
    lines = []
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path.resolve()):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else "?"
