"""A study with every default written out, as plain values that are a study themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bnbench.study.evaluation import TestSet
from bnbench.study.identity import DATA_PATHS
from bnbench.study.roles import CHECK, CHECK_OF, ROLE
from bnbench.study.schema import LENGTHS, MATCH_BASELINE, Settings, Study
from bnbench.study.sections import Choice

#: Settings that most studies do not have, and do not write.
_LEFT_OUT = ("probe", "evaluate", "test_sets", "train", "clip", "batches")


def resolved(study: Study, folder: Path) -> dict[str, Any]:
    """A study that trains the same runs again: shared settings at the top, differing ones under `variants`.

    folder: where it will be written. A data path under the present folder is written relative to
    it, so that a project can be moved as a whole.
    """
    variants = {name: _as_values(settings, folder) for name, settings in study.variants.items()}
    first, *rest = variants.values()
    shared = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in rest)
    }
    values: dict[str, Any] = {"name": study.name}
    if study.description:
        values["description"] = study.description
    values |= shared
    looks = {"auto": True, "max": len(study.seeds), "looks": list(study.looks)}
    values["seeds"] = looks if study.looks else list(study.seeds)
    values["variants"] = {
        name: {key: value for key, value in settings.items() if key not in shared}
        for name, settings in variants.items()
    }
    for name, other in study.checks.items():
        values["variants"][name] |= {ROLE: CHECK, CHECK_OF: other}
    values["baseline"] = study.baseline
    if study.targets:
        values["target"] = [
            {"metric": target.metric, "value": MATCH_BASELINE if target.match_baseline else target.value}
            for target in study.targets
        ]
    values["primary"] = study.primary
    if study.margin:
        values["margin"] = {"metric": study.margin.metric, "value": study.margin.value}
    if study.metrics:
        values["metrics"] = list(study.metrics)
    if study.expect:
        values["expect"] = [claim.written() for claim in study.expect]
    if study.sweep:
        values["sweep"] = study.sweep
    return values


def _as_values(settings: Settings, folder: Path) -> dict[str, Any]:
    """Settings as a study writes them: a choice's name and options in one mapping."""
    values: dict[str, Any] = {}
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        if key in LENGTHS and value is None:
            continue
        if key in _LEFT_OUT and value == type(settings).model_fields[key].default:
            continue
        if key == "evaluate":
            values[key] = [way.written() for way in value]
            continue
        if key == "test_sets":
            values[key] = {one.name: _as_test_set(one, folder) for one in value}
            continue
        if isinstance(value, Choice):
            values[key] = {"name": value.name, **value.options}
        else:
            dumped = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
            values[key] = list(dumped) if isinstance(dumped, tuple) else dumped
    _make_relative(values["dataset"], folder)
    return values


def _as_test_set(test_set: TestSet, folder: Path) -> dict[str, Any]:
    values = test_set.written()
    if "dataset" in values:
        _make_relative(values["dataset"], folder)
    return values


def _make_relative(dataset: dict[str, Any], folder: Path) -> None:
    for key in DATA_PATHS:
        place = dataset.get(key)
        if place and Path(place).is_relative_to(Path.cwd()):
            dataset[key] = os.path.relpath(place, folder)
