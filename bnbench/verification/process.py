"""The settings of the process that user code may change, put back after each check."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType

import torch


def settings() -> dict[str, object]:
    """The process settings that a layer must not change, by name."""
    return {
        "whether gradients are recorded": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": str(torch.get_default_device()),
        "the number of threads": torch.get_num_threads(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


#: The functions that the checks call; a layer that replaces one invalidates the results.
_USED: tuple[ModuleType | type, ...] = (
    builtins,
    json,
    torch,
    torch.Tensor,
    torch.autograd,
    torch.func,
    torch.nn.Module,
    torch.nn.functional,
)
Functions = Mapping[tuple[str, str], object]


def functions() -> Functions:
    """The functions of Python and torch that the checks call, by their place and name."""
    return {
        (place.__name__, name): value
        for place in _USED
        for name, value in list(vars(place).items())
        if callable(value) and not (name.startswith("_") and not name.endswith("__"))
    }


def replaced(before: Functions) -> list[str]:
    """The names of the replaced functions: "torch.allclose"."""
    now = functions()
    changed = [key for key, value in before.items() if now.get(key) is not value]
    return [".".join(key) for key in changed if not _is_torchs_own(now.get(key))]


def _is_torchs_own(function: object) -> bool:
    """torch.compile, when it is first used, wraps some of torch's functions."""
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    return file.startswith(os.path.dirname(torch.__file__))


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Restore all settings on exit; inside, warnings are not errors."""
    before = settings()
    with warnings.catch_warnings(), torch.set_grad_enabled(True):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            restore(before)


def restore(before: dict[str, object]) -> None:
    """Put back what changed."""
    now = settings()
    put = {
        "whether gradients are recorded": torch.set_grad_enabled,
        "torch's default dtype": torch.set_default_dtype,
        "torch's default device": torch.set_default_device,
        "the number of threads": torch.set_num_threads,
        "anomaly detection": torch.autograd.set_detect_anomaly,
        "deterministic algorithms": torch.use_deterministic_algorithms,
    }
    for name, value in before.items():
        if now[name] != value:
            put[name](value)  # type: ignore[operator]
