"""Files from the network: mirrors, checksums, a download that goes on where it was cut off."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnbench.data.progress import progress
from bnbench.errors import DataError

#: Seconds without a byte after which a server counts as silent.
TIMEOUT = 30
CHUNK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file, the addresses that serve it (tried in this order), and where it belongs."""

    urls: tuple[str, ...]
    folder: Path
    name: str
    md5: str

    @property
    def path(self) -> Path:
        """Where it lies once it is here."""
        return self.folder / self.name


def fetch(name: str, files: Sequence[RemoteFile]) -> None:
    """Bring the files here, each whole and with the right checksum; those that are here stay.

    name: what messages call the data set. Raises DataError with every address tried, and the
    files and folder to fill by hand.
    """
    for file in files:
        if _has_md5(file.path, file.md5):
            continue
        reasons = _try_all(file)
        if reasons:
            raise DataError(
                f"Could not download {name}: {'; '.join(reasons)}.",
                "The server, or the way to it, failed; what came is kept and the next try goes on from there.",
                f"put {_by_folder(files)} and run again, or start without a download: bnbench compare",
            )


def _by_folder(files: Sequence[RemoteFile]) -> str:
    folders: dict[Path, list[str]] = {}
    for file in files:
        folders.setdefault(file.folder, []).append(file.name)
    return " and ".join(f"{', '.join(names)} into {folder.absolute()}" for folder, names in folders.items())


def _try_all(file: RemoteFile) -> list[str]:
    """Why each address failed; empty once one of them worked."""
    reasons = []
    for url in file.urls:
        try:
            _download(url, file)
            return []
        except (OSError, http.client.HTTPException, _Incomplete) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) and error.reason else error
            code = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
            reasons.append(f"{url}: {code}{reason}")
    return reasons


class _Incomplete(Exception):
    """What came is not, or not yet, the file."""


def _download(url: str, file: RemoteFile) -> None:
    """One try: go on with what an earlier one left in NAME.part, check the sum, rename."""
    file.folder.mkdir(parents=True, exist_ok=True)
    part = file.folder / f"{file.name}.part"
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bnbench"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is as long as the file, or longer: it is of no use
            part.unlink()
        raise
    with response:
        if response.status != 206:
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with (
            part.open("ab" if done else "wb") as out,
            progress(f"Downloading {url}", total, in_bytes=True) as advance,
        ):
            advance(done)
            while chunk := response.read(CHUNK):
                out.write(chunk)
                advance(len(chunk))
    _accept(part, file, total)


def _accept(part: Path, file: RemoteFile, total: int | None) -> None:
    """Give the finished part its name; throw it away where it is not what was promised."""
    size = part.stat().st_size
    if total is not None and size < total:
        raise _Incomplete(f"the connection ended after {size / 1e6:.1f} of {total / 1e6:.1f} MB")
    if not _has_md5(part, file.md5):
        part.unlink()
        raise _Incomplete(f"what came ({size} bytes) is not the file: its MD5 is not {file.md5}")
    os.replace(part, file.path)


def _has_md5(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5
