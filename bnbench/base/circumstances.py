"""What of this machine and its software can change a run's numbers. Free of torch."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bnbench

_HERE = Path(bnbench.__file__).parent
#: The parts of bnbench that compute a run's numbers.
_COMPUTING = (
    "data", "engine", "models", "network", "norms", "optim", "tasks",
    "base/seeding.py", "base/metrics.py", "base/stacked.py",
)  # fmt: skip
_PACKAGES = ("torchvision", "scipy", "scikit-learn", "pydantic")


@functools.cache
def bnbench_version() -> str:
    """The version; with a hash of the source that trains, where bnbench runs from a checkout that may change."""
    if {"site-packages", "dist-packages"} & set(_HERE.resolve().parts):
        return bnbench.__version__
    digest = hashlib.sha256()
    for part in _COMPUTING:
        path = _HERE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            with suppress(OSError):
                digest.update(file.read_bytes())
    return f"{bnbench.__version__} (source {digest.hexdigest()[:8]})"


@functools.cache
def processor() -> str:
    """The processor's model, as far as the system tells."""
    with suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "cpu model") and value.strip():
                return value.strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
            return done.stdout.strip()
    return platform.processor() or platform.machine()


@functools.cache
def processor_flags() -> str:
    """A hash of what the processor can do, by which libraries choose kernels; "" where the system does not tell."""
    with suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return hashlib.sha256(" ".join(sorted(value.split())).encode()).hexdigest()[:8]
    return ""


@functools.cache
def machine() -> str:
    """The name of this machine."""
    return platform.node() or "unknown"


def versions() -> dict[str, str]:
    """Versions of everything that computes a run, except torch, which reports its own."""
    return {
        "bnbench": bnbench_version(),
        "python": platform.python_version(),
        "numpy": _version("numpy") or "unknown",
        "processor": processor(),
        "processor_flags": processor_flags(),
        "machine": machine(),
    }


def session() -> dict[str, Any]:
    """What a reader may want to know beside that; it changes no number."""
    return {
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_revision": _git_revision(),
        # a byte of a name that is no UTF-8 is half a character, which no file takes
        "command": [
            "bnbench",
            *(os.fsencode(word).decode("utf-8", "backslashreplace") for word in sys.argv[1:]),
        ],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that bnbench runs from, None where it is installed as a package."""
    if not (_HERE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(_HERE.parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
