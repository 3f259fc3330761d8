"""Judges a layer in a process of its own, which it may hang, crash or leave: `verify`. Does not reach torch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import bnbench
from bnbench.base.errors import BnbenchError, LayerError
from bnbench.base.files import to_json, write_file
from bnbench.verification.child import ANSWERED, BROKEN
from bnbench.verification.dependence import Dependences
from bnbench.verification.findings import Verification
from bnbench.verification.wishes import Wishes

Found = TypeVar("Found", Verification, Dependences)

TIMEOUT = 60.0
#: Extra seconds for the child: to import torch, and to report its position at the timeout.
_GRACE = 60.0
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
#: The loader of plugins, for the child alone: it belongs to a higher layer and registers all names.
_LOADER = "bnbench.api.plugins:known_names"
_START = (
    "import sys; sys.path[:] = {path!r}; from bnbench.verification.child import main; "
    "sys.argv = ['bnbench verify']; main({folder!r})"
)


def verify(
    word: str,
    wishes: Wishes,
    *,
    plugins: Sequence[Path] = (),
    timeout: float = TIMEOUT,
    debug: bool = False,
) -> Verification:
    """Run all checks on the layer named `word`, in a child process with a timeout in seconds (without torch's import).

    debug: the layer's output and tracebacks go to stderr. Raises LayerError without a layer to check, and
    when the layer ends, crashes or hangs the process.
    """
    request = {"word": word, "wishes": asdict(wishes), "timeout": timeout, "debug": debug}
    return _ask(request, plugins, Verification.from_json)


def verify_padding(
    word: str,
    wishes: Wishes,
    *,
    plugins: Sequence[Path] = (),
    timeout: float = TIMEOUT,
    debug: bool = False,
) -> Dependences:
    """What the layer named `word`, or with "" every registered normalizer, depends on over tokens: as `verify`."""
    request = {"word": word, "wishes": asdict(wishes), "timeout": timeout, "debug": debug, "padding": True}
    return _ask(request, plugins, Dependences.from_json)


def _ask(
    request: Mapping[str, Any], plugins: Sequence[Path], read: Callable[[Mapping[str, Any]], Found]
) -> Found:
    """The child's answer to a request. Raises the error that stopped it."""
    word, timeout = request["word"] or "a registered normalizer", request["timeout"]
    whole = {**request, "plugins": [str(path) for path in plugins], "loader": _LOADER}
    with _temporary() as folder:
        write_file(Path(folder, "request.json"), to_json(whole).encode())
        code = _run(folder, timeout, request["debug"])
        lines = _lines(Path(folder, "report.jsonl"))
        if code == ANSWERED and lines:
            answer = _answer(lines[-1], read)
            if isinstance(answer, LayerError):
                raise answer
            if answer is not None:
                return answer
        stage = next((line["at"] for line in reversed(lines) if "at" in line), "at the start")
        raise _ended(word, code, stage, Path(folder, "traces.txt"), timeout)


@contextmanager
def _temporary() -> Iterator[str]:
    """A folder for the messages between parent and child. Raises LayerError if none can be created."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="bnbench-verify-", ignore_cleanup_errors=True)
    except OSError as error:
        raise LayerError(
            f"no temporary folder can be written: {error}.",
            "The process that judges the layer answers through one.",
            "set TMPDIR to a folder that can be written.",
        ) from error
    with folder:
        yield folder.name


def _run(folder: str, timeout: float, debug: bool) -> int | None:
    """The child's exit code; None where it had to be killed after the time limit."""
    package = str(Path(bnbench.__file__).resolve().parent.parent)
    path = [entry for entry in sys.path if entry] + [package, os.getcwd()]
    output = sys.stderr if debug and _has_number(sys.stderr) else subprocess.DEVNULL
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _START.format(path=list(dict.fromkeys(path)), folder=folder)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        start_new_session=True,
    )
    try:
        return child.wait(timeout + _GRACE)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(child)


def _has_number(stream: Any) -> bool:
    with suppress(Exception):
        stream.fileno()
        return True
    return False


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The child and what it started; also where it has ended, as its own children may live."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def _lines(report: Path) -> list[dict[str, Any]]:
    lines = []
    with suppress(OSError):
        for line in report.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]


def _answer(line: dict[str, Any], read: Callable[[Mapping[str, Any]], Found]) -> Found | LayerError | None:
    """What the child found, or the error that stopped it; None for an unreadable line."""
    with suppress(Exception):  # whatever stands there instead
        if "found" in line:
            found = read(line["found"])
            found.to_json()
            return found
        error = line["error"]
        return LayerError(*(str(error[key]) for key in ("what", "why", "fix")))
    return None


def _ended(word: str, code: int | None, stage: str, traces: Path, timeout: float) -> BnbenchError:
    """The error for a child that ended without an answer."""
    trace = ""
    with suppress(OSError):
        trace = traces.read_text(encoding="utf-8", errors="replace")
    place = _place(trace)
    where = f"It happened {stage}" + (f", at {place}." if place else ".")
    if code is None or trace.startswith("Timeout ("):
        return LayerError(
            f"{word} did not finish within {timeout:g} s.",
            where,
            "look for an endless loop there; --timeout gives a slow layer more time.",
        )
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if name in _CRASHES:
            return LayerError(f"{word} crashed Python itself ({name}).", where)
        memory = " The system sends it where memory, or another limit, runs out." if name == "SIGKILL" else ""
        return LayerError(f"The process of {word} was ended by {name}.{memory}", where)
    if code in (ANSWERED, BROKEN):
        return LayerError(
            f"{word} broke the checking process: no answer came back.",
            where,
            "leave files of other programs, and Python's and torch's own functions, as they are.",
        )
    return LayerError(
        f"{word} ended the process (exit code {code}), as os._exit does.",
        where,
        "raise an exception instead.",
    )


def _place(trace: str) -> str:
    """The innermost line of the user's in a dump of faulthandler: neither bnbench's nor an installed package's."""
    package = str(Path(bnbench.__file__).resolve().parent)
    installed = (str(Path(os.__file__).parent), "site-packages", package)
    current = trace.split("Current thread", 1)[-1].split("\n\n", 1)[0]
    for file, line in re.findall(r'File "(.+?)", line (\d+)', current):
        if not file.startswith("<") and not any(part in file for part in installed):
            return f"{os.path.relpath(file) if file.startswith(os.getcwd()) else file}:{line}"
    return ""
