"""Folders of one study from several machines become one: their question, their plan, and for each run its one result.

Two folders hold one study where every variant that both have is the same: the same settings, data and source. Their
seeds and variants may differ. The plan of the merged folder has those of all; target, primary metric, margin, baseline
and looks, which change no run, are those of the first folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bnbench.base.errors import ResultsError
from bnbench.base.files import key_text, value_text
from bnbench.results.checks import Plan
from bnbench.results.condensed import is_condensed
from bnbench.results.contents import Cell
from bnbench.results.files import PLAN, SUMMARY_JSON
from bnbench.results.placing import leftovers
from bnbench.results.question import Places, differences, with_facts
from bnbench.results.reader import read_plan
from bnbench.results.run_reader import identity_of, load_run, run_folder
from bnbench.results.same_run import run_differences
from bnbench.results.task import read_task
from bnbench.study.labels import cell_label
from bnbench.study.records import RunRecord

#: What of a plan is a design: no run depends on it.
_DESIGN = ("baseline", "targets", "primary", "margin", "looks", "metrics")


@dataclass(frozen=True)
class Source:
    """A folder to merge, and its plan."""

    path: Path
    plan: dict[str, Any]

    @property
    def seeds(self) -> list[int]:
        """Of all its variants, in their order."""
        return list(dict.fromkeys(seed for cell in self.plan["cells"] for seed in cell["seeds"]))


@dataclass(frozen=True)
class FoundRun:
    """A run of a source. state: which folder it was when it was read."""

    folder: Path
    state: tuple[int, int] | None
    record: RunRecord


@dataclass(frozen=True)
class Conflict:
    """One run with two results. lines: what differs. one, other: where they lie."""

    label: str
    seed: int
    lines: tuple[str, ...]
    one: FoundRun
    other: FoundRun


def read_source(path: Path) -> Source:
    """Raises ResultsError where the folder has no plan that can be read."""
    if not path.is_dir():
        raise ResultsError(f"{path}: there is no such folder.")
    if not os.path.lexists(path / PLAN) and is_condensed(path):
        raise ResultsError(
            f"{path}: keeps {SUMMARY_JSON} alone, without the runs: there is nothing to merge.",
            fix="name the folder that `bnbench compare` wrote, with its runs/.",
        )
    fix = "`bnbench compare` with its study writes the plan again."
    values = read_plan(path)
    read_task(path / PLAN, values.get("task"), ResultsError, fix)
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise ResultsError(f"{path / PLAN}: damaged: {where}: {detail['msg']}.", fix=fix) from None
    whole = plan.model_dump()
    return Source(path, {key: whole[key] for key in (*values, *whole) if key in whole})


def question_differences(sources: Sequence[Source]) -> Iterator[tuple[Source, Source, list[str]]]:
    """Each pair of folders that answer different questions, with what differs."""
    owners = list(sources[:1])  # the first with each variant
    for source in sources[1:]:
        for owner in owners:
            there = {cell["variant"] for cell in source.plan["cells"]}
            lacking = [cell for cell in owner.plan["cells"] if cell["variant"] not in there]
            new = {**source.plan, "cells": [*source.plan["cells"], *lacking]}
            places = Places(f"in {owner.path}", f"in {source.path}")
            answered = {cell["cell"] for cell in owner.plan["cells"]}
            if lines := differences(owner.plan, new, answered, places):
                yield owner, source, lines
                break
        else:
            known = {cell["variant"] for owner in owners for cell in owner.plan["cells"]}
            owners += [source] if {cell["variant"] for cell in source.plan["cells"]} - known else []


def merged_plan(sources: Sequence[Source]) -> dict[str, Any]:
    """The plan of all variants and seeds. Raises ResultsError where the looks of `seeds: auto` do not fit them."""
    first = sources[0].plan
    all_seeds = [source.seeds for source in sources]
    same = all(seeds == all_seeds[0] for seeds in all_seeds)
    seeds = all_seeds[0] if same else sorted({seed for each in all_seeds for seed in each})
    cells: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    owners: dict[str, int] = {}
    for number, source in enumerate(sources):
        for cell in source.plan["cells"]:
            if owners.setdefault(cell["variant"], number) == number:
                cells.append({key: value for key, value in cell.items() if key != "facts"} | {"seeds": seeds})
                facts.append({**source.plan["facts"], **cell["facts"]})
    if first["looks"] and first["looks"][-1] != len(seeds):
        raise ResultsError(
            f"{sources[0].path}: its looks (seeds: auto) end at {first['looks'][-1]} seeds, and the folders have "
            f"{len(seeds)} different seeds together.",
            "When to stop is fixed before the first run, so these seeds can't be added to it.",
            "merge folders with the same `seeds`.",
        )
    shared = with_facts(cells, facts)
    names = set(owners)
    checks = {name: of for source in reversed(sources) for name, of in source.plan["checks"].items()}
    return {
        **first,
        "checks": {
            name: of
            for name, of in checks.items()
            if {name, of} <= names and of not in checks and name != first["baseline"]
        },
        "added": [name for name in owners if all(_is_added(source, name) for source in sources)],
        "facts": shared,
        "cells": cells,
    }


def _is_added(source: Source, variant: str) -> bool:
    """Whether no study of the source's own has the variant: the command line added it."""
    there = {cell["variant"] for cell in source.plan["cells"]}
    return variant not in there or variant in source.plan["added"]


def design_differences(sources: Sequence[Source]) -> Iterator[str]:
    """Remarks on what the first folder decides for the others."""
    first = sources[0]
    for source in sources[1:]:
        for key in _DESIGN:
            one, other = first.plan[key], source.plan[key]
            if key_text(one) != key_text(other):
                yield (
                    f"{key}: {value_text(one)} in {first.path}, {value_text(other)} in {source.path}; the merged "
                    f"folder has that of {first.path}."
                )


def find_runs(
    sources: Sequence[Source], plan: Mapping[str, Any], warnings: list[str]
) -> Iterator[tuple[list[FoundRun], list[Conflict]]]:
    """For each planned run that is there, its results, the one to keep first; and those that contradict it.

    A run that crashed counts only where no other result is there. Runs that can't be read are named in `warnings`.
    """
    cells = [(source, {cell["cell"]: cell for cell in source.plan["cells"]}) for source in sources]
    for planned in plan["cells"]:
        places = [
            (source.path, _cell_of(known[planned["cell"]]))
            for source, known in cells
            if planned["cell"] in known
        ]
        beside = [leftovers(run_folder(path, cell.variant, cell.cell, 0).parent) for path, cell in places]
        for seed in planned["seeds"]:
            found = [
                run
                for (path, cell), left in zip(places, beside, strict=True)
                if (run := _find(path, cell, seed, left, warnings))
            ]
            if found:
                yield _sorted(cell_label(planned["variant"], planned["setting"]), found)


def _cell_of(planned: Mapping[str, Any]) -> Cell:
    return Cell(planned["variant"], planned["setting"], planned["cell"], tuple(planned["seeds"]))


def _find(
    path: Path, cell: Cell, seed: int, beside: Mapping[str, Path], warnings: list[str]
) -> FoundRun | None:
    place = run_folder(path, cell.variant, cell.cell, seed)
    folder = place if os.path.lexists(place) else beside.get(place.name)
    if folder is None:
        return None
    state = identity_of(folder)
    record = load_run(path, cell, seed, warnings, beside)
    return FoundRun(folder, state, record) if record else None


def _sorted(label: str, found: list[FoundRun]) -> tuple[list[FoundRun], list[Conflict]]:
    whole = [run for run in found if run.record.outcome != "crashed"]
    if not whole:
        return found[:1], []
    conflicts = []
    for other in whole[1:]:
        lines = run_differences(whole[0].record, whole[0].folder, other.record, other.folder)
        if lines:
            conflicts.append(Conflict(label, other.record.seed, tuple(lines), whole[0], other))
    best = max(whole, key=lambda run: len(os.listdir(run.folder)))  # the first of those with the most files
    return [best], conflicts
