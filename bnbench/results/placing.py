"""Putting a run's folder in its place in one step, and recovering what a kill in between leaves behind.

A run is written aside, in `.writing-seed-N-<random>`, its run.json last: with a run.json it is whole. Then the
folder takes its place. Where there was one already, the two change places in one step of the file system; where the
system can't do that, the old one steps aside first, as `.replaced-seed-N-<random>`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnbench.base.files import sync_folder
from bnbench.results.files import RUN

_LEFTOVER = re.compile(r"\.(?:writing|replaced)-(?P<run>seed-\d+)-[0-9a-f]{8}")
#: So often a writer tries again that others get in the way of.
_TRIES = 20
#: Of a rename to a name that is taken.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def aside_of(target: Path) -> Iterator[Path]:
    """A folder beside the target to write into; whatever is in it at the end is removed."""
    aside = target.with_name(f".writing-{target.name}-{secrets.token_hex(4)}")
    aside.mkdir()
    try:
        with _held(aside):
            yield aside
    finally:
        remove(aside)


def put(aside: Path, target: Path) -> None:
    """Move the folder to the target's place in one step. Afterwards `aside` is gone, or holds the earlier target."""
    sync_folder(aside)
    for left in reversed(range(_TRIES)):
        try:
            _take(aside, target)
            break
        except OSError as error:  # another writer put its run there, or took one away, in between
            others = (*_OCCUPIED, errno.ENOENT)
            if not left or error.errno not in others or not aside.exists():
                raise
    sync_folder(target.parent)


def _take(aside: Path, target: Path) -> None:
    try:
        os.rename(aside, target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        if not _exchange(aside, target):
            _replace(aside, target)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places; False where the system can't."""
    swap = _renameat2()
    if swap is None:
        return False
    if swap(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The system call of Linux, where there is one."""
    try:
        system_call: Callable[..., int] = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    system_call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]  # type: ignore[attr-defined]
    return system_call


def _replace(aside: Path, target: Path) -> None:
    """In two steps; a kill in between leaves both, and `recover` and the reader find them."""
    replaced = target.with_name(f".replaced-{target.name}-{secrets.token_hex(4)}")
    os.rename(target, replaced)
    try:
        os.rename(aside, target)
    except BaseException:
        with suppress(OSError):  # another writer was faster, or the old run is better than none
            os.rename(replaced, target)
        raise
    finally:
        if os.path.lexists(target):
            remove(replaced)


def remove(path: Path) -> None:
    """A folder with all that is in it, or whatever else has that name; as far as the system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def leftovers(parent: Path) -> dict[str, Path]:
    """Whole runs that lie beside their places in that folder, by the name of the place ("seed-3")."""
    by_name: dict[str, Path] = {}
    for path in _leftovers(parent):
        match = _LEFTOVER.fullmatch(path.name)
        if match and (path / RUN).is_file():
            by_name[match["run"]] = path
    return by_name


def recover(runs: Path) -> None:
    """Move whole runs that a kill left beside their places into them, and remove the remains of others."""
    for parent in _folders(runs):
        for name, path in leftovers(parent).items():
            if not _is_held(path) and not os.path.lexists(parent / name):
                with suppress(OSError):
                    os.rename(path, parent / name)
        for path in _leftovers(parent):
            if not _is_held(path):
                remove(path)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except OSError:
        return []


def _leftovers(parent: Path) -> list[Path]:
    """Of this version and of earlier ones, which named them `.writing-<random>` and `.writing-<random>.replaced`."""
    try:
        names = [name for name in os.listdir(parent) if name.startswith((".writing-", ".replaced-"))]
    except OSError:
        return []
    return [parent / name for name in sorted(names)]


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Inside, others can see that a process writes this folder; a kill ends that by itself."""
    number = _lock(folder, exclusive=False)
    try:
        yield
    finally:
        if number is not None:
            os.close(number)


def _is_held(folder: Path) -> bool:
    """Whether a live process writes it."""
    number = _lock(folder, exclusive=True)
    if number is None:
        return folder.is_dir() and not folder.is_symlink()
    os.close(number)
    return False


def _lock(folder: Path, *, exclusive: bool) -> int | None:
    """A descriptor that holds a lock on the folder; None where there is none to be had."""
    try:
        import fcntl  # not there on Windows
    except ImportError:
        return None
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # a pipe would wait for a writer
    except OSError:
        return None
    try:
        fcntl.flock(number, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number
