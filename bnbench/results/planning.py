"""plan.json of a study: its question, and which runs answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bnbench.results.question import with_facts
from bnbench.study import Study
from bnbench.study.plan import RunSpec, identity_facts


def plan_of(study: Study, runs: Sequence[RunSpec]) -> dict[str, Any]:
    """The content of plan.json: the question, its cells with their seeds, and the facts that identify them."""
    cells: dict[str, dict[str, Any]] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        key = f"{run.variant}-{run.cell}"
        cell = {"variant": run.variant, "setting": dict(run.setting), "cell": run.cell, "seeds": []}
        cells.setdefault(key, cell)["seeds"].append(run.seed)
        if key not in facts:
            facts[key] = identity_facts(run.settings, run.provenance)
    shared = with_facts(list(cells.values()), list(facts.values()))
    return {
        "name": study.name,
        "baseline": study.baseline,
        "targets": [asdict(target) for target in study.targets],
        "primary": study.primary,
        "margin": asdict(study.margin) if study.margin else None,
        "looks": list(study.looks),
        "metrics": list(study.metrics),
        "task": study.task.plain(),
        "checks": dict(study.checks),
        "added": list(study.added),
        "facts": shared,
        "cells": list(cells.values()),
    }
