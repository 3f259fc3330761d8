"""Image folders on disk, with links, hidden files, pipes and duplicates. Each real file counts once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bnbench.base.errors import DataError
from bnbench.data.tally import Tally

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif".split()
)
#: Device and inode; the real path where a file system has no inodes.
FileId = tuple[int, int] | str

#: Notes on files that are left out, by reason.
LEFT_OUT = {
    "hidden": "left out: {count} hidden file{s} or folder{s}",
    "suffix": "left out: {count} file{s} whose suffix is not an image's",
    "beside": "left out: {count} file{s} beside the class folders, and so of no class",
    "broken": "left out: {count} link{s} that lead{v} nowhere",
    "special": "left out: {count} pipe{s}, socket{s} or device{s}",
    "loop": "not followed: {count} link{s} back to a folder above, or to one that was read already",
    "again": "counted once: {count} file{s} with a second name in the same class (a link)",
    "folder": "left out: {count} folder{s} beside train, test and val",
    "file": "left out: {count} file{s} beside the folders train and test",
}


def identity(path: Path) -> FileId:
    """An identifier that two names of one file share. Follows links. Raises OSError."""
    status = path.stat()
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name. Raises DataError where it can't be read."""
    try:
        with os.scandir(folder) as items:
            return sorted(items, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"imagefolder: {folder} can't be read: {error.strerror or error}.",
            "No image is left out unseen.",
            f"chmod -R u+rX '{folder}', or move the folder elsewhere.",
        ) from error


def is_hidden(name: str) -> bool:
    """Whether the name is hidden or one of the files that operating systems add to folders of pictures."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini", "__macosx")


def kind_of(entry: os.DirEntry[str]) -> str:
    """For example "folder", "file", or why it is neither: "hidden", "broken" or "special"."""
    return _looked_at(entry)[0]


def _looked_at(entry: os.DirEntry[str]) -> tuple[str, FileId]:
    """The entry's kind and identity, from one call of `stat`."""
    if is_hidden(entry.name):
        return "hidden", ""
    try:
        status = os.stat(entry.path)
    except OSError:  # no such file; too many links
        return "broken", ""
    file: FileId = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(entry.path)
    if stat.S_ISDIR(status.st_mode):
        return "folder", file
    return "file" if stat.S_ISREG(status.st_mode) else "special", file


def relative(path: Path, root: Path) -> str:
    """The relative path, as from os.path.relpath, but faster if one path contains the other."""
    start, whole = f"{root}{os.sep}", str(path)
    inside = whole.startswith(start) and ".." not in whole[len(start) :]
    return whole[len(start) :] if inside else os.path.relpath(path, root)


def images_below(folder: Path, root: Path, tally: Tally) -> Iterator[tuple[FileId, Path]]:
    """Every image file below `folder`, in an order that never changes; what is left out goes to the tally.

    root: the data set's folder, to which examples are relative. Links are followed, but never back up.
    Raises DataError where a folder can't be read.
    """
    above = {identity(parent) for path in (folder.absolute(), folder.resolve()) for parent in path.parents}
    seen: set[FileId] = above | {identity(folder)}
    files: set[FileId] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        deeper = []
        for entry in entries(place):
            path, (kind, file) = place / entry.name, _looked_at(entry)
            left_out = kind if kind not in ("folder", "file") else ""
            if kind == "folder" and file in seen:
                left_out = "loop"
            elif kind == "folder":
                seen.add(file)
                deeper.append(path)
            elif kind == "file" and path.suffix.lower() not in SUFFIXES:
                left_out = "suffix"
            elif kind == "file" and file in files:
                left_out = "again"
            elif kind == "file":
                files.add(file)
                yield file, path
            if left_out:
                tally.add(left_out, relative(path, root))
        waiting += reversed(deeper)
