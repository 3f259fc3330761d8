"""Files, in one place: writes that happen whole or not at all, strict JSON, CSV, and a reader that never waits.

A file is written aside, down to the disk, and then takes its name. So a kill, a full disk or a power loss leaves the
old file or the new one, never a part of one.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import itertools
import json
import math
import os
import secrets
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bnbench.base.errors import ResultsError

#: How the name of a file ends that is being written, or that a kill left behind.
WRITING = ".writing"
#: So often a file is written again that another process gets in the way of.
_TRIES = 20
#: Of a link on a file system that has none.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV)


@contextmanager
def disk_errors(path: Path, fix: str = "--output with a folder that you may write to.") -> Iterator[None]:
    """Raises ResultsError in place of an OSError: a full disk, a folder without permission."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ResultsError(
            f"{path}: can't be written: {error.strerror or error}.",
            "The disk is full; what was finished before is kept, whole." if full else "",
            "free some space and run the same command again: it goes on where it stopped." if full else fix,
        ) from None


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A name beside the target to write to; at the end of the block that file takes the target's name.

    Where the block fails the target stays as it is, and nothing is left beside it. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{WRITING}")
    try:
        yield aside
        take_name(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def take_name(aside: Path, target: Path) -> None:
    """Let a finished file take another one's name, down to the disk. Raises OSError."""
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(aside, target)
    sync_folder(target.parent)


def write_whole(
    target: Path, content: str | bytes, fix: str = "--output with a folder that you may write to."
) -> None:
    """Write a file: it is there whole or not at all, also after a power loss. Raises ResultsError with that fix."""
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    with disk_errors(target, fix):
        for left in reversed(range(_TRIES)):
            try:
                with written_aside(target) as aside:
                    aside.write_bytes(data)
                return
            except FileNotFoundError:  # another process took the half-written file for a leftover
                if not left:
                    raise


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, down to the disk: a rename must not survive its data. Raises OSError."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_first(target: Path, content: str) -> bool:
    """Write a file, whole, where nothing has its name yet; False where something has. Of two writers one gets True.

    It is no safer from a power loss than the writer itself. Raises OSError.
    """
    data = content.encode("utf-8")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{WRITING}")
    try:
        aside.write_bytes(data)
        try:
            os.link(aside, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with target.open("xb") as file:
                file.write(data)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def take_away(path: Path) -> Path | None:
    """Give a file a name of its own beside its place; None where it is gone. Of two callers one gets it."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{WRITING}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return None
    return aside


def sync_folder(folder: Path) -> None:
    """Write a folder's names down to the disk, where the system can do that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(number)
        finally:
            os.close(number)


def check_regular(path: Path) -> None:
    """Raises OSError for anything but a regular file: a folder has no bytes, and a pipe would never end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_text(path: Path) -> str:
    """The text of a regular file. Raises OSError for anything else: a pipe would never end."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with os.fdopen(number, encoding="utf-8", newline="", closefd=False) as file:
            return file.read()
    finally:
        os.close(number)


def free_name(folder: Path) -> str:
    """A folder of nearly that name that is not there yet, quoted for a shell."""
    name = folder.resolve().name or "results"
    candidates = (folder.resolve().parent / f"{name}-{number}" for number in itertools.count(2))
    path = next(path for path in candidates if not os.path.lexists(path))
    return shlex.quote(os.path.relpath(path) if not folder.is_absolute() else str(path))


def to_csv(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] = (),
    cell: Callable[[Any], Any] = lambda value: value,
) -> str:
    """Rows as CSV, with a header: every column that any row has, empty where a row lacks it.

    columns: the first columns, written even without rows. cell: converts a value to text.
    """
    rows = list(rows)
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    return csv_text(names, ([cell(row[name]) if name in row else "" for name in names] for row in rows))


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows of values under a header, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as texts."""
    return list(csv.DictReader(io.StringIO(read_text(path), newline="")))


def to_number(value: Any) -> float:
    """A float; null and "" are NaN."""
    return float("nan") if value in (None, "") else float(value)


def to_json(values: Any, *, ascii: bool = False, compact: bool = False) -> str:
    """Strict JSON: a number that is not finite becomes null.

    ascii: every terminal and pipe lets it through. compact: in one line, without spaces or a newline at the end.
    """
    if compact:
        return json.dumps(strict(values), allow_nan=False, ensure_ascii=ascii, separators=(",", ":"))
    parts: list[str] = []
    _indented(values, "\n", ascii, parts.append)
    return "".join(parts) + "\n"


_CONTAINERS = frozenset((dict, list, tuple))
_SCALARS = frozenset((str, int, float, bool, type(None)))


def _indented(value: Any, line: str, ascii: bool, write: Callable[[str], None]) -> None:
    """The text of `json.dumps(strict(value), indent=1)`, many times as fast: a flat container is one call of C.

    line: the line break with the indent of the container.
    """
    kind = type(value)
    if kind not in _CONTAINERS:
        if kind not in _SCALARS and isinstance(value, Mapping | list | tuple):
            value = strict(value)
            kind = type(value)
        if kind not in _CONTAINERS:
            write(json.dumps(strict(value), allow_nan=False, ensure_ascii=ascii))
            return
    left, right = "{}" if kind is dict else "[]"
    if not value:
        write(left + right)
        return
    inner = line + " "
    items = value.values() if kind is dict else value
    if _SCALARS.issuperset(map(type, items)) and (kind is not dict or set(map(type, value)) == {str}):
        write(left + inner + _flat(value, inner, ascii) + line + right)
        return
    separator = left + inner
    for item in value.items() if kind is dict else value:
        write(separator)
        separator = "," + inner
        if kind is dict:
            write(json.dumps(str(item[0]), ensure_ascii=ascii) + ": ")
            _indented(item[1], inner, ascii, write)
        else:
            _indented(item, inner, ascii, write)
    write(line + right)


def _flat(value: Any, line: str, ascii: bool) -> str:
    """The inside of a container of scalars, an item a line."""
    separators = ("," + line, ": ")
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=ascii, separators=separators)[1:-1]
    except ValueError:  # NaN
        return json.dumps(strict(value), allow_nan=False, ensure_ascii=ascii, separators=separators)[1:-1]


def strict(value: Any) -> Any:
    """The same value in dicts, lists and scalars that strict JSON has; NaN and infinity become None."""
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def key_text(value: Any) -> str:
    """One text for equal values, whatever the order of their keys: to hash, or to compare."""
    return json.dumps(value, sort_keys=True, default=str)


def hash_of(value: Any, digits: int = 8) -> str:
    """So many hex digits that stand for a value (up to 128)."""
    return hashlib.blake2b(key_text(value).encode("utf-8", "surrogatepass"), digest_size=64).hexdigest()[
        :digits
    ]


def value_text(value: Any) -> str:
    """A value as messages show it: JSON in one line, a text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
