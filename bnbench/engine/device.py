"""The device that a study runs on, and what of the environment can change the last bits of a number."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import nn

from bnbench.errors import DeviceError

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
        _deterministic_cuda()
    return torch.device(name)


def _deterministic_cuda() -> None:
    """The same command gives the same bits on a GPU too: deterministic kernels, no TF32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


#: Parameters times samples of one step, from which a network without convolutions repays a second thread.
_WORTH_THREADS = 20_000_000
#: What torch would use: every core, or what OMP_NUM_THREADS says.
_ALL_THREADS = torch.get_num_threads()


def use_threads(model: nn.Module, batch_size: int) -> None:
    """One thread for small fully connected networks, all for the rest.

    On small operations threads cost more than they bring, and many times more on a busy machine.
    The rule looks at the run alone, because the number of threads changes a run's last bits.
    """
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    work = batch_size * sum(parameter.numel() for parameter in model.parameters())
    torch.set_num_threads(_ALL_THREADS if convolves or work >= _WORTH_THREADS else 1)


def environment(device: torch.device) -> dict[str, Any]:
    """Plain values: what can change a run's last bits or its speed."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "device": device.type,
        "device_name": name,
        "num_threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def forked_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Inside, draws from the global generators leave no trace outside."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock that is read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
