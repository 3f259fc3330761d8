"""The device of a study, and the part of the environment that can change the last bits of a number."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch

from bnbench.base.circumstances import processor, versions
from bnbench.base.errors import DeviceError
from bnbench.base.machine import count_cores
from bnbench.engine.process import is_forked, set_deterministic

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(name: DeviceName) -> torch.device:
    """The device of that name; auto: CUDA, else MPS, else the CPU. Raises DeviceError where it isn't there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate in ("cuda", "mps", "cpu") if available[candidate])
    if not available[name]:
        reason = (
            f"this torch ({torch.__version__}) is built without CUDA"
            if name == "cuda" and torch.version.cuda is None
            else "torch finds no such device on this machine"
        )
        raise DeviceError(
            f"--device {name}: {reason}.", fix="--device auto (would run on the CPU here), or --device cpu."
        )
    if name == "cuda":
        set_deterministic()
    return torch.device(name)


#: What OMP_NUM_THREADS says, or else every core that torch sees and the container's quota pays for.
_ALL_THREADS = torch.get_num_threads()
if "OMP_NUM_THREADS" not in os.environ:
    _ALL_THREADS = min(_ALL_THREADS, count_cores())


def all_threads() -> int:
    """Every core, or OMP_NUM_THREADS; one in a process that was forked."""
    return 1 if is_forked() else _ALL_THREADS


def environment(device: torch.device) -> dict[str, Any]:
    """The environment that can change a run's last bits or its speed, as plain values."""
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "num_threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        **versions(),
    }


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock that is read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
