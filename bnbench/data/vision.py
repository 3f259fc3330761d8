"""torchvision's data sets: located or downloaded, and read into tensors.

Addresses, file names and checksums come from torchvision; `download` replaces torchvision's downloader,
which has no timeout, can't resume and fills a log with its progress bar.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.array_cache import Array, Arrays, keep, read_kept, state_of
from bnbench.data.download import RemoteFile, fetch
from bnbench.data.packing import CONTENTS, unpack_same
from bnbench.data.tensors import make_dataset

Part = tuple[Tensor, Tensor]
#: Change it where the same files would now give other arrays.
CACHE_VERSION = 1


def load(class_name: str, data_dir: Path) -> Dataset:
    """The data set of that torchvision class, from `data_dir` in torchvision's own layout.

    Where its files are there already nothing is fetched and nothing printed. What was read is kept
    in data_dir/torchvision-cache until a file changes, as torchvision takes longer to import than its files to
    read. Raises DataError where torchvision does not import, a download fails, or a file is corrupt.
    """
    cache = data_dir / "torchvision-cache" / f"{class_name}.npz"
    if kept := _kept(cache, data_dir):
        return make_dataset(class_name, *kept)
    source = _torchvision_class(class_name)
    files = _files(source, data_dir)
    if not all(path.is_file() for path in files):
        _unpack_other_packings(source, data_dir)
    missing = not all(path.is_file() for path in files)
    if missing:
        fetch(
            class_name, [file for file in _remote_files(source, data_dir) if not _is_unpacked(source, file)]
        )
    try:
        # stdout is for results alone, whatever a version of torchvision has to say
        with contextlib.redirect_stdout(sys.stderr):
            # before the files are read, which may change meanwhile; what was just fetched is unpacked first
            key = None if missing else _key(data_dir, files)
            train, test = (_open(source, data_dir, part, unpack=missing) for part in ("train", "test"))
            read = _tensors(train), _tensors(test), _class_names(train)
    except Exception as error:  # a corrupt file can raise anything
        raise DataError(
            f"{class_name}: its files in {files[0].parent.absolute()} can't be read: {error or type(error).__name__}",
            "At least one of them is truncated or corrupt.",
            f"delete {', '.join(path.name for path in files)} there and run again.",
        ) from error
    with contextlib.suppress(OSError):  # no cache, no harm
        if key := key or _key(data_dir, files):
            keep(cache, key, _arrays(data_dir, files, *read))
    return make_dataset(class_name, *read)


def _unpack_other_packings(source: Any, data_dir: Path) -> None:
    """Files that were compressed by someone else have another checksum, and may have the same content."""
    if hasattr(source, "resources"):
        known = CONTENTS.get(source.__name__, {})
        for file in _remote_files(source, data_dir):
            name = file.path.stem
            if name in known and file.path.is_file() and not _is_unpacked(source, file):
                unpack_same(file.path, {name: known[name]}, file.folder)
    elif hasattr(source, "base_folder"):
        (file,) = _remote_files(source, data_dir)
        inside = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        if file.path.is_file():
            unpack_same(file.path, {f"{source.base_folder}/{name}": md5 for name, md5 in inside}, data_dir)


def _is_unpacked(source: Any, file: RemoteFile) -> bool:
    """Whether a file of the MNIST family is unpacked; each of its archives holds one file."""
    return hasattr(source, "resources") and file.path.with_suffix("").is_file()


def _key(data_dir: Path, files: Sequence[Path]) -> str | None:
    return state_of(data_dir, files, CACHE_VERSION, _version("torchvision"))


def _arrays(data_dir: Path, files: Sequence[Path], train: Part, test: Part, names: Sequence[str]) -> Arrays:
    arrays: dict[str, Array] = {
        "files": np.array([os.path.relpath(file, data_dir) for file in files]),
        "class_names": np.array(names),
    }
    for part, (images, labels) in (("train", train), ("test", test)):
        arrays |= {f"{part}_images": images.numpy(), f"{part}_labels": labels.numpy()}
    return arrays


def _kept(cache: Path, data_dir: Path) -> tuple[Part, Part, list[str]] | None:
    """The cached arrays; None if they are missing or damaged, or if a file has changed or is missing."""
    kept = read_kept(cache, lambda held: _key(data_dir, [data_dir / name for name in held["files"].tolist()]))
    if not kept:
        return None
    train, test = (
        (torch.from_numpy(kept[f"{part}_images"]), torch.from_numpy(kept[f"{part}_labels"]))
        for part in ("train", "test")
    )
    return train, test, kept["class_names"].tolist()


def _torchvision_class(class_name: str) -> Any:
    """The class. Raises DataError where torch and torchvision do not fit each other."""
    try:
        return getattr(importlib.import_module("torchvision.datasets"), class_name)
    except Exception as error:  # a torch that does not fit raises RuntimeError, ImportError, OSError, ...
        raise DataError(
            f"torchvision {_version('torchvision')} does not work with torch {_version('torch')}: {error}",
            "Each torchvision is built for one torch.",
            "pip install --upgrade torch torchvision; or use a data set that needs no torchvision: "
            "digits, npz, imagefolder.",
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _files(source: Any, data_dir: Path) -> list[Path]:
    """The files that reading needs."""
    if hasattr(source, "resources"):
        return [file.path.with_suffix("") for file in _remote_files(source, data_dir)]
    if hasattr(source, "base_folder"):
        names = [name for name, _ in source.train_list + source.test_list] + [source.meta["filename"]]
        return [data_dir / source.base_folder / name for name in names]
    return [file.path for file in _remote_files(source, data_dir)]


def _remote_files(source: Any, data_dir: Path) -> list[RemoteFile]:
    """The files to download, by torchvision's class attributes: the MNIST family, the CIFAR family, SVHN."""
    if hasattr(source, "resources"):
        folder = data_dir / source.__name__ / "raw"
        return [
            RemoteFile(tuple(mirror + name for mirror in source.mirrors), folder, name, md5)
            for name, md5 in source.resources
        ]
    if hasattr(source, "base_folder"):
        return [RemoteFile((source.url,), data_dir, source.filename, source.tgz_md5)]
    return [
        RemoteFile((url,), data_dir, name, md5)
        for url, name, md5 in map(source.split_list.get, ("train", "test"))
    ]


def _open(source: Any, data_dir: Path, part: str, *, unpack: bool) -> Any:
    """torchvision's object for that part. unpack: let it open its archives first."""
    choice = {"split": part} if hasattr(source, "split_list") else {"train": part == "train"}
    return source(data_dir, download=unpack, **choice)


def _tensors(data: Any) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) uint8 and labels (N,)."""
    images = torch.as_tensor(data.data)
    if hasattr(data, "split_list"):  # SVHN: (N, C, H, W)
        return images, torch.as_tensor(data.labels)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images, torch.as_tensor(data.targets)


def _class_names(data: Any) -> list[str]:
    """Names, without the "0 - " that MNIST's have; the digits where torchvision has none (SVHN)."""
    names = getattr(data, "classes", [str(digit) for digit in range(10)])
    return [name.partition(" - ")[2] or name for name in names]
