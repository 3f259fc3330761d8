"""The settings of the process that user code may change, put back after each check."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch


def settings() -> dict[str, object]:
    """What a layer has no business to change, by name."""
    return {
        "whether gradients are recorded": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": str(torch.get_default_device()),
        "the number of threads": torch.get_num_threads(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever happens inside, the settings are afterwards as they were; warnings are not errors."""
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
