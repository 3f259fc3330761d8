"""Earlier looks: results that a folder showed before its study changed; a verdict on more seeds names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bnbench.base.errors import ResultsError
from bnbench.results.checks import Plan, PlannedCell, PlannedLook
from bnbench.results.files import RUN, SUMMARY_JSON
from bnbench.results.reader import read_plan
from bnbench.results.run_reader import run_folder
from bnbench.study.labels import cell_label

#: A look at fewer seeds has no verdict, so it can't have been the reason to add some.
_LEAST_SEEDS = 3


def earlier_looks(folder: Path, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The earlier looks in the folder's present plan, and the look at its own runs where the new plan differs.

    plan: the new plan, which replaces the present one. Empty where the two plans share no run.
    """
    try:
        old = Plan.model_validate(read_plan(folder))
    except (ResultsError, ValidationError):
        return []
    labels = {new["cell"]: cell_label(new["variant"], new["setting"]) for new in plan["cells"]}
    shared = [cell for cell in old.cells if cell.cell in labels]
    if not shared:
        return []
    # a variant that is now one setting of a sweep, or has another name, is the same comparison
    renamed = {cell_label(cell.variant, cell.setting): labels[cell.cell] for cell in shared}
    looks = [_with_names(look, renamed) for look in old.earlier]
    looks += _look_at(folder, old, shared, plan, renamed)
    kept = {look.model_dump_json(): look for look in looks if not _is_part(look, plan)}
    return [look.model_dump(mode="json") for look in kept.values()]


def _with_names(look: PlannedLook, renamed: Mapping[str, str]) -> PlannedLook:
    return look.model_copy(update={"family": sorted(renamed.get(name, name) for name in look.family)})


def _look_at(
    folder: Path, old: Plan, cells: list[PlannedCell], plan: Mapping[str, Any], renamed: Mapping[str, str]
) -> Iterator[PlannedLook]:
    """The look at the old plan's runs, where the tables showed it and the new plan has another design."""
    seen = max(_num_runs(folder, cell) for cell in cells)
    if seen < _LEAST_SEEDS or not (folder / SUMMARY_JSON).exists():
        return
    before = _design(old.model_dump())
    look = _with_names(PlannedLook(seeds=seen, family=sorted(_family(old.model_dump())), **before), renamed)
    same_seeds = {tuple(cell.seeds) for cell in cells} == {tuple(cell["seeds"]) for cell in plan["cells"]}
    if not same_seeds or before != _design(plan) or _other_family(look, plan):
        yield look


def _design(plan: Mapping[str, Any]) -> dict[str, Any]:
    margin = plan["margin"]["value"] if plan["margin"] else None
    return {
        "looks": plan["looks"],
        "primary": plan["primary"],
        "margin": margin,
        "baseline": plan["baseline"],
    }


def _family(plan: Mapping[str, Any]) -> set[str]:
    """What is compared with the baseline, and has a verdict."""
    return {
        cell_label(cell["variant"], cell["setting"])
        for cell in plan["cells"]
        if cell["variant"] != plan["baseline"] and cell["variant"] not in plan["checks"]
    }


def _other_family(look: PlannedLook, plan: Mapping[str, Any]) -> bool:
    """Whether a comparison left the family, or one came to looks that had spent their 5 % without it.

    A fixed number of seeds may be asked about one variant more: Holm's correction then counts all of them.
    """
    left, came = set(look.family) - _family(plan), _family(plan) - set(look.family)
    return bool(left or (came and look.looks))


def _num_runs(folder: Path, cell: PlannedCell) -> int:
    runs = (run_folder(folder, cell.variant, cell.cell, seed) / RUN for seed in cell.seeds)
    return sum(run.exists() for run in runs)


def _is_part(look: PlannedLook, plan: Mapping[str, Any]) -> bool:
    """Whether the new plan is that very design again, at all of its seeds: then nothing was added to it."""
    sizes = {len(cell["seeds"]) for cell in plan["cells"]}
    design = look.model_dump(include={"looks", "primary", "margin", "baseline"})
    same = design == _design(plan) and not _other_family(look, plan)
    return same and sizes == {look.seeds} and not look.looks
