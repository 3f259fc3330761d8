"""A disk that fails, for tests: in one process, or in all that a command starts.

Every call of Python that changes a folder is counted, in all processes together, and the n-th one meets the fault:

    full    this call and all later ones that need space fail with ENOSPC
    eio     this call alone fails with EIO
    slow    this call and all later ones take a while longer
    kill    the process is killed by SIGKILL in place of the call; where it writes, half of the bytes are written

It needs no other library: `environment(fault)` is what a command's processes are started with, `installed(fault)` is
for this process. Renaming by an exchange is a system call without a function in Python, and is not counted.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "BNBENCH_TEST_FAULT"
#: Calls that need no space: on a full disk they work.
_NEED_NO_SPACE = ("unlink", "rmdir", "rename", "replace", "fsync")
_SLOW_SECONDS = 0.05


@dataclass(frozen=True)
class Fault:
    """What happens at which call. root: the folder that it is about. log: a file of all calls, outside of it.

    at: the number of the call, from 1; 0 for none. only: a part of the path or of the call's name, "" for every call.
    """

    kind: str
    at: int
    root: str
    log: str
    only: str = ""


def environment(fault: Fault) -> dict[str, str]:
    """The environment of a command whose processes all have that fault."""
    site = str(Path(__file__).parent / "faulty_site")
    paths = [site, *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), VARIABLE: json.dumps(asdict(fault))}


def calls(fault: Fault) -> list[str]:
    """The calls so far, such as "write results/runs/a/run.json", in their order."""
    path = Path(fault.log)
    return path.read_text(errors="replace").splitlines() if path.exists() else []


@contextmanager
def installed(fault: Fault) -> Iterator[None]:
    """Inside, this process has that fault."""
    undo = _Installed(fault)
    try:
        yield
    finally:
        undo.remove()


def install() -> None:
    """Install the fault of the environment, for as long as this process lives."""
    _Installed(Fault(**json.loads(os.environ[VARIABLE])))


class _Installed:
    def __init__(self, fault: Fault) -> None:
        self.fault, self.root = fault, os.path.realpath(fault.root)
        self.os_open, self.os_write = os.open, os.write
        self._before: list[tuple[Any, str, Any]] = []
        for name in ("mkdir", "unlink", "rmdir", "rename", "replace", "link", "symlink"):
            self._patch(os, name, self._by_path(name, getattr(os, name)))
        self._patch(os, "remove", os.unlink)
        self._patch(os, "open", self._opened(os.open))
        self._patch(os, "fsync", self._by_number("fsync", os.fsync))
        self._patch(os, "ftruncate", self._by_number("ftruncate", os.ftruncate))
        self._patch(os, "write", self._written(os.write))
        opener = self._file_opened(io.open)
        self._patch(io, "open", opener)
        self._patch(builtins, "open", opener)

    def _patch(self, owner: Any, name: str, function: Any) -> None:
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, function)

    def remove(self) -> None:
        for owner, name, function in reversed(self._before):
            setattr(owner, name, function)

    def meet(self, name: str, path: str, half: Callable[[], object] | None = None) -> None:
        """Count a call, and let it meet the fault. half: writes half of the bytes."""
        inside = os.path.relpath(path, self.root)
        if inside.startswith("..") or self.fault.only not in f"{name} {inside}":
            return
        number = self._count(f"{name} {inside}")
        at, kind = self.fault.at, self.fault.kind
        if not at or number < at:
            return
        if kind == "slow":
            time.sleep(_SLOW_SECONDS)
        elif kind == "full" and name not in _NEED_NO_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        elif number == at and kind == "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        elif number == at and kind == "kill":
            if half:
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    def _count(self, text: str) -> int:
        """One line in the log, which all processes append to; the number of its lines."""
        import fcntl

        log = self.os_open(self.fault.log, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(log, fcntl.LOCK_EX)
            self.os_write(log, (text.replace("\n", " ") + "\n").encode("utf-8", "surrogateescape"))
            size = os.fstat(log).st_size
            return os.pread(log, size, 0).count(b"\n")
        finally:
            os.close(log)

    def _by_path(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            self.meet(name, self._place(words[-1] if name in ("link", "symlink") else words[0], options))
            return function(*words, **options)

        return call

    def _by_number(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(number: Any, *words: Any) -> Any:
            if place := self._of_number(number):
                self.meet(name, place)
            return function(number, *words)

        return call

    def _written(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(number: int, content: Any) -> Any:
            if place := self._of_number(number):
                self.meet("write", place, lambda: function(number, bytes(content)[: len(content) // 2]))
            return function(number, content)

        return call

    def _opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, flags: int, *words: Any, **options: Any) -> Any:
            if flags & (os.O_CREAT | os.O_TRUNC):
                self.meet("create", self._place(path, options))
            return function(path, flags, *words, **options)

        return call

    def _file_opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Files that Python writes itself: their raw writes are counted, as those are what the disk sees."""

        def call(file: Any, mode: str = "r", buffering: int = -1, *words: Any, **options: Any) -> Any:
            writes = set(mode) & set("wxa+")
            if not writes or isinstance(file, int) or self._is_outside(file):
                return function(file, mode, buffering, *words, **options)
            if not (set(mode) & set("+")) or "w" in mode or "x" in mode:
                self.meet("create", self._place(file, {}))
            raw = _Raw(self, file, mode.replace("b", "").replace("t", ""))
            whole = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return whole if "b" in mode else io.TextIOWrapper(whole, *words, **options)

        return call

    def _is_outside(self, file: Any) -> bool:
        return os.path.relpath(self._place(file, {}), self.root).startswith("..")

    def _place(self, path: Any, options: dict[str, Any]) -> str:
        text = os.fsdecode(path)
        folder = self._of_number(options["dir_fd"]) if options.get("dir_fd") is not None else os.getcwd()
        whole = os.path.join(folder, text)
        return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))

    def _of_number(self, number: Any) -> str:
        try:
            return os.readlink(f"/proc/self/fd/{int(number)}")
        except (OSError, TypeError, ValueError):
            return ""


class _Raw(io.FileIO):
    def __init__(self, disk: _Installed, file: Any, mode: str) -> None:
        super().__init__(os.fspath(file), mode)
        self._disk, self._path = disk, disk._place(file, {})

    def write(self, content: Any) -> int:
        half = bytes(content)[: len(content) // 2]
        self._disk.meet("write", self._path, lambda: io.FileIO.write(self, half))
        return super().write(content)
