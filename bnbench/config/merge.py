"""Layers of settings: what all variants share, then a variant's changes, then a setting of the sweep.

Sections merge key by key, except that a section whose `name` changes is replaced whole: the
options of one optimizer mean nothing to another.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnbench.config.schema import CHOICES, STUDY_KEYS
from bnbench.config.yaml_source import Path_, Source, read_value
from bnbench.errors import ConfigError, Mistake


@dataclass(frozen=True)
class Layer:
    """Plain settings, and where each was written."""

    data: dict[str, Any]
    places: dict[Path_, str]

    def place(self, path: Path_) -> str:
        """Where that key, or the nearest section around it, was written."""
        return Source(self.data, self.places).place(path)


def layer_of(source: Source, without: Sequence[str] = ()) -> Layer:
    """The bottom layer: the source's own keys, dotted ones opened up."""
    layer = Layer(
        {}, {path: place for path, place in source.places.items() if not path or path[0] not in without}
    )
    for key, value in source.data.items():
        if key not in without:
            _set(layer, key, copy.deepcopy(value), source, (key,))
    return layer


def apply_change(base: Layer, change: Mapping[str, Any], path: Path_, source: Source) -> Layer:
    """A new layer: `base` with the changes written at `path` of the source. Keys may be dotted."""
    layer = Layer(copy.deepcopy(base.data), dict(base.places))
    for key, value in change.items():
        _set(layer, key, copy.deepcopy(value), source, (*path, key))
    return layer


def override(source: Source, overrides: Sequence[str]) -> list[Mistake]:
    """Apply "key=value" texts to a source, in order; returns the mistakes in them."""
    mistakes = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            mistakes.append(
                Mistake("command line", f'"{text}" is not of the form key=value, such as epochs=3.')
            )
            continue
        try:
            _override(source, tuple(key.strip().split(".")), read_value(value))
        except ConfigError as error:
            for mistake in error.mistakes:
                mistakes.append(Mistake("command line", f'{key}: "{value}": {mistake.message}'))
    return mistakes


def _override(source: Source, path: Path_, value: Any) -> None:
    here = source.data
    for depth, key in enumerate(path[:-1]):
        inner = here.get(key)
        if not isinstance(inner, dict):
            # `norm.eps=1e-3` on `norm: batch` keeps the name
            inner = {"name": inner} if isinstance(inner, str) and path[depth] in CHOICES else {}
            here[key] = inner
        here = inner
    study_key = (
        len(path) == 1 and path[0] in STUDY_KEYS
    )  # variants={...} are other variants, not more of them
    here[path[-1]] = value if study_key else _merged(here.get(path[-1]), value)
    for depth in range(1, len(path) + 1):
        source.places.setdefault(path[:depth], "command line")
    source.places[path] = "command line"


def _set(layer: Layer, dotted: str, value: Any, source: Source, origin: Path_) -> None:
    """Put a value at a dotted key, merging sections, and note where it came from."""
    path = tuple(dotted.split("."))
    here = layer.data
    for key in path[:-1]:
        inner = here.get(key)
        if not isinstance(inner, dict):
            inner = {"name": inner} if inner is not None else {}
            here[key] = inner
        here = inner
    here[path[-1]] = _merged(here.get(path[-1]), value)
    layer.places[path] = source.place(origin)
    for inner_path, place in source.places.items():
        if len(inner_path) > len(origin) and inner_path[: len(origin)] == origin:
            layer.places[(*path, *inner_path[len(origin) :])] = place


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, str) and isinstance(new, dict) and "name" not in new:
        old = {"name": old}
    if isinstance(old, dict) and isinstance(new, str) and new == old.get("name"):
        return old  # the same name again: its options stay
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    if "name" in new and new["name"] != old.get("name"):
        return new
    merged = dict(old)
    for key, value in new.items():
        merged[key] = _merged(old.get(key), value)
    return merged
