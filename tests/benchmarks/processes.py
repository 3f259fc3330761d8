"""Contenders as processes: start, wait, take the time, keep what they print."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RIVALS = Path(__file__).parent / "rivals"


@dataclass(frozen=True)
class Finished:
    """seconds: wall clock from start to end of the process; cpu_seconds: of it and its children, all cores."""

    seconds: float
    cpu_seconds: float
    stdout: str


class Failed(Exception):
    """A contender that did not come to its end: the last lines of what it said."""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Run Python with these arguments, on this checkout. Raises Failed."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {})
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=variables)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed("\n".join(lines[-12:]) or f"exit code {done.returncode}, and not a word")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Finished(seconds, cpu, done.stdout)
