"""Results folders side by side: whether they are several studies, or one whose runs lie apart."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from bnbench.analysis.circumstances import ranges
from bnbench.base.errors import ResultsError
from bnbench.results import StudyResults


def check_apart(found: Mapping[str, StudyResults]) -> None:
    """Raises ResultsError where two folders (by path) hold the same runs, or those of one study."""
    for (one, ours), (other, theirs) in combinations(found.items(), 2):
        mine, yours = _seeds(ours), _seeds(theirs)
        shared = set(mine) & set(yours)
        alone = f"look at each alone: bnbench report {shlex.quote(one)}"
        if _one_question(ours, theirs) and shared:
            here = {seed for seeds in mine.values() for seed in seeds}
            there = {seed for seeds in yours.values() for seed in seeds}
            both = ranges(sorted(here & there)) if here & there else ""
            raise ResultsError(
                f"{one} and {other} hold runs of one study ({ours.name}), so they are not two workloads: "
                f"{ranges(sorted(here))} and {ranges(sorted(there))}.",
                f"In both: {both}; put together, those of {one} are kept." if both else "",
                f"{_merge(one, other, sorted(here | there))}\nor {alone}",
            )
        twice = sorted(cell for cell in shared if mine[cell] & yours[cell])
        if twice and len(twice) in (len(mine), len(yours)):
            raise ResultsError(
                f"{one} and {other} hold the same runs, so they are not two workloads.",
                f"All runs of {one if len(twice) == len(mine) else other} are in the other, too.",
                alone,
            )


def _one_question(ours: StudyResults, theirs: StudyResults) -> bool:
    """Whether the variants that both have are the same cells, in studies of one name."""
    mine, yours = _cells(ours), _cells(theirs)
    both = set(mine) & set(yours)
    return ours.name == theirs.name and bool(both) and all(mine[name] == yours[name] for name in both)


def _cells(results: StudyResults) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for cell in results.cells:
        found.setdefault(cell.variant, set()).add(cell.cell)
    return found


def _seeds(results: StudyResults) -> dict[str, set[int]]:
    """By the identity of a cell, the seeds that are there."""
    found: dict[str, set[int]] = {}
    for cell in results.cells:
        found.setdefault(cell.cell, set()).update(run.seed for run in cell.records)
    return found


def _merge(one: str, other: str, seeds: list[int]) -> str:
    """Commands that put both together."""
    copied = f"cp -rn {shlex.quote(str(Path(other) / 'runs'))}/. {shlex.quote(str(Path(one) / 'runs'))}/"
    study = shlex.quote(str(Path(one) / "study.yaml"))
    words = f"'seeds=[{', '.join(map(str, seeds))}]' --output {shlex.quote(one)}"
    return f"put them together: {copied} && bnbench compare {study} {words}"
