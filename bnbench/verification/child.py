"""The child process that runs a layer's code and its checks. Started by `parent.py`.

Reads a request, writes one JSON object a line: {"at": …} before each step, at the end {"found": …} or
{"error": …}. It ends by `os._exit`, so that threads of the layer's can't keep it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

#: Memory that a layer may take: this share of what is free at the start.
_SHARE = 0.8
#: The exit codes of a process that wrote its answer, and of one that could not: no layer ends with them by chance.
ANSWERED, BROKEN = 96, 97
#: Before a layer can replace them.
_leave, _dumps = os._exit, json.dumps


class _Report:
    """The file that the parent reads; only the process that opened it writes."""

    def __init__(self, path: str) -> None:
        self._file, self._owner = open(path, "a", encoding="utf-8"), os.getpid()

    def write(self, **line: Any) -> None:
        if os.getpid() != self._owner:  # the layer forked: its child must not judge on
            _leave(0)
        self._file.write(_dumps(line, allow_nan=False) + "\n")
        self._file.flush()


def main(folder: str) -> None:
    """Judge the layer of the request in that folder, and end the process."""
    try:
        _answer(folder)
    except BaseException:  # what writes the answer was broken, too
        _leave(BROKEN)
    _leave(ANSWERED)


def _answer(folder: str) -> None:
    request = json.loads(Path(folder, "request.json").read_text(encoding="utf-8"))
    traces = open(Path(folder, "traces.txt"), "w", encoding="utf-8")
    faulthandler.enable(traces)
    _limit_memory()
    if hasattr(os, "register_at_fork"):  # a layer that forks must not be judged twice
        os.register_at_fork(after_in_child=lambda: _leave(0))
    report = _Report(str(Path(folder, "report.jsonl")))
    warnings.simplefilter("ignore")
    report.write(at="while torch was imported")
    try:
        _import_torch()
        faulthandler.dump_traceback_later(request["timeout"], exit=True, file=traces)  # the layer's time
        line = _judged(request, report)
    except BaseException as error:
        line = {"error": _described(error, request["debug"])}
    report.write(**line)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()


def _import_torch() -> None:
    from bnbench.base.errors import LayerError

    try:
        import bnbench.verification.judge  # noqa: F401  # and torch with it
    except ImportError as error:
        raise LayerError(f"torch can't be imported: {type(error).__name__}: {error}") from error


def _judged(request: dict[str, Any], report: _Report) -> dict[str, Any]:
    from bnbench.verification.judge import verify
    from bnbench.verification.wishes import Wishes

    if request["plugins"]:
        report.write(at="while a plugin was imported")
        module, _, function = request["loader"].partition(":")
        getattr(importlib.import_module(module), function)([Path(path) for path in request["plugins"]])
    wishes = Wishes(**request["wishes"])
    if request.get("padding"):
        from bnbench.verification.padding import judge

        report.write(at="while the layer was called on padded sequences")
        return {"found": judge(request["word"], wishes).to_json()}
    verification = verify(
        request["word"],
        wishes,
        debug=request["debug"],
        at=lambda stage: report.write(at=stage),
    )
    return {"found": verification.to_json()}


def _described(error: BaseException, debug: bool) -> dict[str, Any]:
    from bnbench.base.errors import BnbenchError
    from bnbench.base.user_code import first_line

    if isinstance(error, BnbenchError):
        return {"what": error.what, "why": error.why, "fix": error.fix}
    if debug:
        import traceback

        traceback.print_exception(error)
    message = f"the layer could not be judged: {first_line(error)}"
    why = (
        "The error came from the code that inspects the layer, outside the checks: the layer contains itself, "
        "its own train(), parameters() or to() fails, or it changes torch or Python itself."
    )
    return {"what": message, "why": why, "fix": "" if debug else "--debug shows where."}


def _limit_memory() -> None:
    """A layer that takes all memory gets a MemoryError, and not the machine; no core files."""
    with contextlib.suppress(Exception):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_DATA, (int(free * _SHARE), hard))
