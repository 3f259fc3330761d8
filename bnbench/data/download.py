"""Files from the network: mirrors, checksums, a download that goes on where it was cut off."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnbench.base.errors import DataError
from bnbench.base.files import take_name
from bnbench.data.progress import progress
from bnbench.data.tally import printable

#: Seconds without a byte after which a server counts as silent.
TIMEOUT = 30
CHUNK = 1 << 18
#: No data set that is known here is larger.
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class RemoteFile:
    """A file, the addresses that serve it (tried in this order), and where it belongs.

    md5: its checksum, hex; of 64 digits, its SHA-256.
    """

    urls: tuple[str, ...]
    folder: Path
    name: str
    md5: str

    @property
    def algorithm(self) -> str:
        """What its checksum is, in words."""
        return "SHA-256" if len(self.md5) == 64 else "MD5"

    def checksum_of(self, path: Path) -> str:
        """The same checksum of a file that is here, hex."""
        return sha256_of(path) if len(self.md5) == 64 else md5_of(path)

    @property
    def path(self) -> Path:
        """The path of the downloaded file."""
        return self.folder / self.name


def fetch(name: str, files: Sequence[RemoteFile]) -> None:
    """Bring the files here, each whole and with the right checksum; those that are here stay.

    name: what messages call the data set. Raises DataError with every address tried, and the
    files and folder to fill by hand.
    """
    for file in files:
        there = file.checksum_of(file.path) if file.path.is_file() else None
        if there == file.md5:
            continue
        reasons = _try_all(file)
        if reasons and there:
            unpack = f", or unpack it there (gunzip -k {file.path}): " if file.name.endswith(".gz") else ""
            raise DataError(
                f"{file.path} is there, but it is not the original: its {file.algorithm} is {there}, not {file.md5}.",
                f"A fresh copy could not be downloaded either: {'; '.join(reasons)}.",
                f"put the original into its place{unpack}{'unpacked files are read as they are' if unpack else ''}.",
            )
        if reasons:
            raise DataError(
                f"Could not download {name}: {'; '.join(reasons)}.",
                "The server or the connection failed; the partial file is kept and the next try resumes it.",
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
        except (OSError, ValueError, http.client.HTTPException, _Incomplete) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) and error.reason else error
            code = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
            reasons.append(f"{url}: {code}{printable(reason) or type(error).__name__}")
    return reasons


class _Incomplete(Exception):
    """The downloaded bytes are incomplete or wrong."""


def _download(url: str, file: RemoteFile) -> None:
    """One try: go on with what an earlier one left in NAME.part, check the sum, rename."""
    file.folder.mkdir(parents=True, exist_ok=True)
    part = file.folder / f"{file.name}.part"
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bnbench"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        opener = urllib.request.build_opener(_NoWayDown)
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is as long as the file, or longer: it is of no use
            part.unlink()
        raise
    with response:
        if response.status != 206:
            done = 0
        length = _length(response.headers.get("Content-Length"))
        total = None if length is None else done + length
        with (
            part.open("ab" if done else "wb") as out,
            progress(f"Downloading {url}", total, in_bytes=True) as advance,
        ):
            advance(done)
            while chunk := response.read(CHUNK):
                out.write(chunk)
                advance(len(chunk))
                if out.tell() > MOST_BYTES:
                    raise _Incomplete(f"more than {MOST_BYTES / 1e6:.0f} MB came: this is not the file")
    _accept(part, file, total)


def _length(header: str | None) -> int | None:
    """The Content-Length as a number; None where it is missing or malformed."""
    return int(header) if header and header.strip().isdecimal() else None


class _NoWayDown(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but none from https to a protocol that anyone on the way can change."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"redirected from https to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _accept(part: Path, file: RemoteFile, total: int | None) -> None:
    """Rename the finished part to the final name; delete it where its checksum is wrong."""
    size = part.stat().st_size
    checksum = file.checksum_of(part)
    if checksum != file.md5:
        if total is not None and size < total:
            raise _Incomplete(f"the connection ended after {size / 1e6:.1f} of {total / 1e6:.1f} MB")
        part.unlink()
        raise _Incomplete(
            f"the download ({size} bytes) is not the file: its {file.algorithm} is {checksum}, not {file.md5}"
        )
    take_name(part, file.path)


def md5_of(path: Path) -> str:
    """Its checksum, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256_of(path: Path) -> str:
    """Its SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
