"""Results folders side by side: whether they are several studies, or one whose runs lie apart."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from bnbench.analysis.circumstances import ranges
from bnbench.base.errors import ResultsError
from bnbench.base.files import free_name
from bnbench.results import StudyResults


def check_apart(folders: Mapping[str, StudyResults]) -> None:
    """Raises ResultsError where two folders (by path) hold the same runs, or runs of one study."""
    for (one, left), (other, right) in combinations(folders.items(), 2):
        left_seeds, right_seeds = _seeds(left), _seeds(right)
        shared = set(left_seeds) & set(right_seeds)
        alone = (
            f"look at each alone: bnbench report {shlex.quote(one)}, then bnbench report {shlex.quote(other)}"
        )
        if _one_question(left, right) and shared:
            here = {seed for seeds in left_seeds.values() for seed in seeds}
            there = {seed for seeds in right_seeds.values() for seed in seeds}
            both = ranges(sorted(here & there)) if here & there else ""
            merge = f"{_merge(one, other)}\nor " if left_seeds != right_seeds else ""
            raise ResultsError(
                f"{one} and {other} hold runs of one study ({left.name}), so they are not two workloads: "
                f"{ranges(sorted(here))} and {ranges(sorted(there))}.",
                f"In both: {both}; equal ones become one." if both and merge else "",
                f"{merge}{alone}",
            )
        twice = sorted(cell for cell in shared if left_seeds[cell] & right_seeds[cell])
        if twice and len(twice) in (len(left_seeds), len(right_seeds)):
            raise ResultsError(
                f"{one} and {other} hold the same runs, so they are not two workloads.",
                f"All runs of {one if len(twice) == len(left_seeds) else other} are in the other, too.",
                alone,
            )


def _one_question(left: StudyResults, right: StudyResults) -> bool:
    """Whether the variants that both have are the same cells, in studies of one name."""
    left_cells, right_cells = _cells(left), _cells(right)
    both = set(left_cells) & set(right_cells)
    return (
        left.name == right.name and bool(both) and all(left_cells[name] == right_cells[name] for name in both)
    )


def _cells(results: StudyResults) -> dict[str, set[str]]:
    cells: dict[str, set[str]] = {}
    for cell in results.cells:
        cells.setdefault(cell.variant, set()).add(cell.cell)
    return cells


def _seeds(results: StudyResults) -> dict[str, set[int]]:
    """By the identity of a cell, the seeds that are there."""
    seeds: dict[str, set[int]] = {}
    for cell in results.cells:
        seeds.setdefault(cell.cell, set()).update(run.seed for run in cell.records)
    return seeds


def _merge(one: str, other: str) -> str:
    """The command that puts both together."""
    return f"put them together: bnbench merge {shlex.join((one, other))} --output {free_name(Path(one))}"
