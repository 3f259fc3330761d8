"""Contenders as processes: start, wait, take the time, keep what they print; round after round."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import rotated

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


def play(
    names: Sequence[str], rounds: int, measure: Callable[[str, int], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Interleaved rounds: what was measured, with its "round" and "contender", and who failed and why.

    A contender that fails is left out of the rounds after. Ctrl-C ends the rounds and keeps what is there.
    """
    measured: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    try:
        for number in range(rounds):
            for name in rotated(names, number):
                if name in failures:
                    continue
                start = time.perf_counter()
                try:
                    measured.append({"round": number, "contender": name, **measure(name, number)})
                    said = f"{time.perf_counter() - start:.1f} s"
                except Failed as failure:
                    failures[name] = str(failure)
                    said = f"FAILED: {failure}"
                print(f"round {number + 1} of {rounds}: {name}: {said}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        failures["the benchmark"] = "interrupted; the rounds before are below"
    return measured, failures


def json_file(text: str) -> Path:
    """For argparse: a file in a folder that is there, so that an hour's numbers find their place."""
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.absolute().parent}")
    return path
