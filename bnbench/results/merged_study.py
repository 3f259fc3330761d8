"""study.yaml of a merged folder: a study that trains the runs of all of them again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnbench.base.errors import ConfigError
from bnbench.base.files import read_text
from bnbench.results.files import STUDY
from bnbench.study import read_yaml, to_yaml
from bnbench.study.identity import DATA_PATHS

#: What a study says beside the settings of its variants.
_NO_SETTINGS = (
    "name", "description", "seeds", "variants", "baseline", "target", "primary", "margin", "metrics", "expect", "sweep",
)  # fmt: skip


def merged_study(folders: Sequence[Path], plan: Mapping[str, Any], output: Path) -> str | None:
    """The text: the first folder's study with the seeds and variants of the plan; None where none can be read.

    folders: in the order in which they count. A relative path of data is written relative to `output`, where it leads
    to something from its folder.
    """
    studies = list(_readable(folders))
    if not studies:
        return None
    first = studies[0][1]
    variants: dict[str, dict[str, Any]] = {}
    for folder, study in studies:
        for name, settings in _whole_variants(study).items():
            variants.setdefault(name, _moved(settings, folder, output))
    names = [name for name in dict.fromkeys(cell["variant"] for cell in plan["cells"]) if name in variants]
    if not names:
        return None
    start, *rest = (variants[name] for name in names)
    shared = {
        key: value
        for key, value in start.items()
        if all(key in other and other[key] == value for other in rest)
    }
    seeds = list(dict.fromkeys(seed for cell in plan["cells"] for seed in cell["seeds"]))
    looks = plan["looks"]
    values: dict[str, Any] = {key: first[key] for key in ("name", "description") if key in first}
    values |= shared
    values["seeds"] = {"auto": True, "max": len(seeds), "looks": list(looks)} if looks else seeds
    values["variants"] = {
        name: {key: value for key, value in variants[name].items() if key not in shared} for name in names
    }
    return to_yaml(values | {key: first[key] for key in _NO_SETTINGS[4:] if key in first})


def _readable(folders: Sequence[Path]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for folder in folders:
        try:
            values = read_yaml(read_text(folder / STUDY), STUDY).data
        except (OSError, ValueError, ConfigError):
            continue
        if isinstance(values, Mapping) and isinstance(values.get("variants"), Mapping):
            yield folder, values


def _whole_variants(study: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every variant with the settings that all of its study share."""
    shared = {key: value for key, value in study.items() if key not in _NO_SETTINGS}
    return {name: {**shared, **(settings or {})} for name, settings in study["variants"].items()}


def _moved(settings: dict[str, Any], folder: Path, output: Path) -> dict[str, Any]:
    moved = dict(settings)
    if "dataset" in moved:
        moved["dataset"] = _with_path(moved["dataset"], folder, output)
    if isinstance(tests := moved.get("test_sets"), Mapping):
        moved["test_sets"] = {
            name: {**one, "dataset": _with_path(one["dataset"], folder, output)}
            if isinstance(one, Mapping) and "dataset" in one
            else one
            for name, one in tests.items()
        }
    return moved


def _with_path(dataset: Any, folder: Path, output: Path) -> Any:
    if not isinstance(dataset, Mapping):
        return dataset
    moved = dict(dataset)
    for key in DATA_PATHS:
        place = moved.get(key)
        if isinstance(place, str) and not os.path.isabs(place) and (folder / place).exists():
            moved[key] = os.path.relpath(folder / place, output)
    return moved
