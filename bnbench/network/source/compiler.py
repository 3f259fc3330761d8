"""Packages of networks without torch's compiler, whose import takes longer than looking at a network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_UTILS = "torch._dynamo.utils"


class _Later(ModuleType):
    """Stands for torch._dynamo.utils, which is imported when it is used."""

    def is_compile_supported(self, device_type: str) -> bool:
        """What torchvision's roi_align asks for when it runs."""
        return bool(self._real().is_compile_supported(device_type))

    def _real(self) -> ModuleType:
        if sys.modules.get(_UTILS) is self:
            del sys.modules[_UTILS]
        return importlib.import_module(_UTILS)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Inside, torchvision can be imported without torch._dynamo, which it names in one place, for one function."""
    if _UTILS in sys.modules:
        yield
        return
    later = sys.modules[_UTILS] = _Later(_UTILS)
    try:
        yield
    finally:
        if sys.modules.get(_UTILS) is later:
            del sys.modules[_UTILS]
