"""The arithmetic and the tables of the benchmarks: rounds, ratios, extrapolation, agreement. Runs nothing itself."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, median
from typing import Any

#: So many interleaved rounds make a claim; with fewer the table says so.
ENOUGH_ROUNDS = 5


@dataclass(frozen=True)
class Spread:
    """Least, middle and largest of several measurements of one thing."""

    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError where there is none."""
        values = list(values)
        return cls(min(values), median(values), max(values))

    def text(self, digits: int, unit: str = "") -> str:
        """`middle [least-most]`."""
        return f"{self.middle:.{digits}f}{unit} [{self.least:.{digits}f}-{self.most:.{digits}f}]"


def ratios(theirs: Mapping[int, float], ours: Mapping[int, float]) -> Spread | None:
    """Theirs over ours, round by round: only what was measured in the same round is compared."""
    both = sorted(theirs.keys() & ours.keys())
    return Spread.of(theirs[round_] / ours[round_] for round_ in both) if both else None


def by_round(
    rounds: Iterable[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> dict[str, dict[int, float]]:
    """contender -> round -> value, from records with "contender" and "round"."""
    found: dict[str, dict[int, float]] = {}
    for one in rounds:
        found.setdefault(one["contender"], {})[one["round"]] = value(one)
    return found


def extrapolated(process_seconds: float, runs: Sequence[Mapping[str, Any]], seeds: int) -> float:
    """What a process would have taken with `seeds` seeds of every variant.

    runs: those that it trained, each with "variant" and "seconds". What the process spent outside its
    runs (start, imports, data) counts once; a missing run costs the mean of its variant's measured ones.
    """
    by_variant: dict[str, list[float]] = {}
    for run in runs:
        by_variant.setdefault(run["variant"], []).append(run["seconds"])
    outside = process_seconds - sum(run["seconds"] for run in runs)
    return outside + sum(seeds * mean(seconds) for seconds in by_variant.values())


def mean_accuracies(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The mean test accuracy of each variant over its seeds."""
    by_variant: dict[str, list[float]] = {}
    for run in runs:
        by_variant.setdefault(run["variant"], []).append(run["test_accuracy"])
    return {variant: mean(values) for variant, values in by_variant.items()}


def disagreements(accuracies: Mapping[str, Mapping[str, float]], tolerance: float) -> list[str]:
    """Who is further than the tolerance from the others, a sentence each.

    accuracies: contender -> variant -> mean test accuracy. The others stand as their median, so that one that is
    wrong does not make the rest look wrong; between two, both are named.
    """
    found = []
    for contender, own in accuracies.items():
        for variant, value in own.items():
            others = [
                theirs[variant]
                for name, theirs in accuracies.items()
                if name != contender and variant in theirs
            ]
            if others and not abs(value - median(others)) <= tolerance:
                found.append(
                    f"{contender}, {variant}: mean test accuracy {value:.4f}, the others' median {median(others):.4f} "
                    f"(tolerance {tolerance:g})"
                )
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the rest right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    rule = ["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def rotated(names: Sequence[str], round_: int) -> list[str]:
    """The contenders' order in a round: each round another one is first."""
    shift = round_ % len(names)
    return [*names[shift:], *names[:shift]]


def use_cores(count: int) -> int:
    """Keep this process and its children to so many cores, where the system lets us; how many there are then."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine(cores: int, packages: Sequence[str]) -> dict[str, Any]:
    """What the numbers depend on: cores, processor, load at the start, versions, revision."""
    return {
        "processor": _processor(),
        "cores": cores,
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in packages},
        "revision": _revision(),
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
