"""Results folders side by side: whether they are several studies, or one whose runs lie apart."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from bnbench.analysis.circumstances import ranges
from bnbench.errors import ResultsError
from bnbench.results import StudyResults


def check_apart(found: Mapping[str, StudyResults]) -> None:
    """Raises ResultsError where two folders (by path) hold runs of one study, which would count twice."""
    for (one, ours), (other, theirs) in combinations(found.items(), 2):
        mine, yours = _seeds(ours), _seeds(theirs)
        shared = sorted(set(mine) & set(yours))
        if not shared or not (ours.name == theirs.name or len(shared) in (len(mine), len(yours))):
            continue
        here = {seed for seeds in mine.values() for seed in seeds}
        there = {seed for seeds in yours.values() for seed in seeds}
        both = ranges(sorted(here & there)) if here & there else ""
        raise ResultsError(
            f"{one} and {other} hold runs of one study ({ours.name}), so they are not two workloads: "
            f"{ranges(sorted(here))} and {ranges(sorted(there))}.",
            f"In both: {both}; put together, those of {one} are kept." if both else "",
            _merge(one, other, sorted(here | there)),
        )


def _seeds(results: StudyResults) -> dict[str, set[int]]:
    """By the identity of a cell, the seeds that are there."""
    found: dict[str, set[int]] = {}
    for cell in results.cells:
        found.setdefault(cell.cell, set()).update(run.seed for run in cell.records)
    return found


def _merge(one: str, other: str, seeds: list[int]) -> str:
    """Commands that put both together."""
    return (
        f"put them together: cp -rn {shlex.quote(str(Path(other) / 'runs'))}/. {shlex.quote(str(Path(one) / 'runs'))}/ "
        f"&& bnbench compare {shlex.quote(str(Path(one) / 'study.yaml'))} "
        f"'seeds=[{', '.join(map(str, seeds))}]' --output {shlex.quote(one)}\n"
        f"or look at each alone: bnbench report {shlex.quote(one)}"
    )
