"""Prepared data that several processes read: in memory once, and gone with the last of them."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bnbench.data.prepared import Prepared
from bnbench.data.tensors import base_of
from bnbench.engine.library import data_key
from bnbench.study import Settings

#: Where a tensor may start: as torch's own memory, at a multiple of 64 bytes.
_ALIGNMENT = 64


class SharedData:
    """Prepared data by key, in one anonymous file that is handed to worker processes when they start."""

    def __init__(self, data: Mapping[str, Prepared]) -> None:
        self._parts: dict[str, dict[str, Any]] = {}
        # anonymous memory on Linux; elsewhere a file without a name. Neither is bound by the size of /dev/shm
        self._file = (
            os.fdopen(os.memfd_create("bnbench"), "w+b")
            if hasattr(os, "memfd_create")
            else tempfile.TemporaryFile()
        )
        for key, prepared in data.items():
            parts = {field.name: getattr(prepared, field.name) for field in fields(prepared)}
            self._parts[key] = {name: _each(part, Tensor, self._write) for name, part in parts.items()}
        self._file.flush()

    def _write(self, tensor: Tensor) -> _Place:
        start = -(-self._file.tell() // _ALIGNMENT) * _ALIGNMENT
        self._file.seek(start)
        if (held := base_of(tensor)) is None:
            tensor = tensor.contiguous()
            view = None
        else:
            view = _View(tensor.stride(), int(tensor.storage_offset()), len(held))
        self._file.write((tensor if held is None else held).numpy().data)
        return _Place(tensor.dtype, tuple(tensor.shape), start, view)

    def __reduce__(self) -> Any:
        """What a starting worker gets: the file itself, not its content."""
        from multiprocessing.reduction import DupFd  # not there on Windows, where nothing starts workers

        return _open, (DupFd(self._file.fileno()), self._parts)

    def close(self) -> None:
        """The memory is freed when every worker has ended, too."""
        self._file.close()


class _View(NamedTuple):
    """How overlapping windows lie in the text that the file holds: its length is `values`."""

    stride: tuple[int, ...]
    offset: int
    values: int


class _Place(NamedTuple):
    """Where a tensor lies in the file. view: of overlapping windows, whose text stands there once."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    view: _View | None

    def read(self, memory: mmap.mmap) -> Tensor:
        """The tensor, in the shared memory."""
        count = self.view.values if self.view else torch.Size(self.shape).numel()
        if count == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        whole = torch.frombuffer(memory, dtype=self.dtype, count=count, offset=self.start)
        if self.view:
            return whole.as_strided(self.shape, self.view.stride, self.view.offset)
        return whole.view(self.shape)


def _each(part: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same, with everything of a kind changed in it, also in the pairs of a mapping."""
    if isinstance(part, Mapping):
        return {key: _each(value, kind, change) for key, value in part.items()}
    if type(part) is tuple and part and isinstance(part[0], kind):
        return tuple(_each(value, kind, change) for value in part)
    return change(part) if isinstance(part, kind) else part


class SharedLibrary:
    """In a worker: the data of the settings that it may be asked for."""

    def __init__(self, data: Mapping[str, Prepared]) -> None:
        self._data = data

    def prepared(self, settings: Settings) -> Prepared:
        """The data set, split and normalised."""
        return self._data[data_key(settings)]


def _open(file: Any, parts: Mapping[str, Mapping[str, Any]]) -> SharedLibrary:
    """Map the file privately: a plugin's writes into the source of a batch stay in its worker."""
    descriptor = file.detach()
    memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size, access=mmap.ACCESS_COPY)
    os.close(descriptor)
    data = {}
    for key, items in parts.items():
        values = {name: _each(part, _Place, lambda place: place.read(memory)) for name, part in items.items()}
        data[key] = Prepared(**values)
    return SharedLibrary(data)
