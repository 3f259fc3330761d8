"""Archives that somebody else packed: the same content has another checksum, so the content is what is checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bnbench.base.files import take_name

CHUNK = 1 << 20

#: SHA-256 of the unpacked files, from the originals (whose MD5 torchvision knows), by data set.
CONTENTS: dict[str, dict[str, str]] = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "FashionMNIST": {
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


def unpack_same(archive: Path, contents: Mapping[str, str], folder: Path) -> bool:
    """Unpack the files of `contents` (name -> MD5 or SHA-256, hex) into `folder`, if the archive holds just them.

    archive: a .gz of one file, or a .tar.gz. False, with nothing written, where a file is missing, damaged
    or another one, or can't be written.
    """
    aside: dict[str, Path] = {}
    try:
        for name, stream in _members(archive, contents):
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            aside[name] = place.with_name(f".{place.name}.{os.getpid()}.part")
            if not _copy(stream, aside[name], contents[name]):
                return False
        if set(aside) != set(contents):
            return False
        for name, part in aside.items():
            take_name(part, folder / name)
        return True
    except (
        Exception
    ):  # a damaged archive can raise anything; whoever needs the files says that they are missing
        return False
    finally:
        for part in aside.values():
            with suppress(OSError):
                part.unlink()


def _members(archive: Path, contents: Mapping[str, str]) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(archive) as files:
            for member in files:
                stream = files.extractfile(member) if member.name in contents and member.isreg() else None
                if stream:
                    yield member.name, stream
    else:
        (name,) = contents
        with _opened(archive) as stream:
            yield name, stream


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    with gzip.open(archive) as stream:
        yield stream  # type: ignore[misc]


def _copy(stream: IO[bytes], place: Path, digest: str) -> bool:
    """Copy the stream; return whether the copy has this digest."""
    checksum = hashlib.sha256() if len(digest) == 64 else hashlib.md5(usedforsecurity=False)
    with place.open("wb") as out:
        while chunk := stream.read(CHUNK):
            checksum.update(chunk)
            out.write(chunk)
    return checksum.hexdigest() == digest
