"""Starting the worker processes' imports before this process makes its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bnbench.api.shipped import expanded, find_study
from bnbench.base.errors import ConfigError


def start_workers_early(
    studies: Sequence[str], overrides: Sequence[str], device: str, jobs: int | None
) -> None:
    """Workers' imports take as long as this process's: let them run in parallel, before it starts its own.

    Not where a GPU seems to be at hand, nor for studies of the embedded digits, which are done before workers would be.
    """
    from bnbench.engine.workers.server import count_cores, start_server

    gpu = sys.platform == "darwin" or Path("/dev/nvidiactl").exists()
    if min(count_cores(), jobs or 2) < 2 or device not in ("auto", "cpu") or (device == "auto" and gpu):
        return
    with suppress(OSError, ConfigError):  # a missing study is reported where it is read
        names = [study for study, _ in expanded(studies)]
        if not all(_is_of_digits(find_study(name), overrides) for name in names):
            start_server()


def _is_of_digits(study: Path, overrides: Sequence[str]) -> bool:
    """At a glance, before anything can read it properly; a wrong guess costs a second."""
    for override in reversed(overrides):
        if re.match(r"dataset(\.name)?\s*=", override):
            return "digits" in override
    if not study.is_file():
        return True  # what a pipe holds can be read once
    return bool(re.search(rb"^dataset:\s*(\{\s*name:\s*)?digits\b", study.read_bytes(), re.M))
