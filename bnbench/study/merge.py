"""Levels of settings: the shared settings, then the command line, a variant's changes, a setting of the sweep.

A level is flat: its leaves by their whole paths, so that `optimizer.lr: 1` and `optimizer: {lr: 1}`
are one thing, and keys have no order. A level that names another entry of a registry drops what the
levels below it say of that section: the options of one optimizer mean nothing to another.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bnbench.base.errors import ConfigError, Mistake
from bnbench.base.options import means_none
from bnbench.study.augment_names import SEQUENCE
from bnbench.study.schema import CAN_BE_NONE, CHOICES, DEFAULT_CHOICES, LENGTHS, SECTIONS, STUDY_KEYS
from bnbench.study.yaml_source import MERGE, Path_, Source


@dataclass(frozen=True)
class Leaf:
    """A value, and where it was written."""

    value: Any
    place: str
    #: Where the elements of a list were written, by their paths in it.
    inner: Mapping[Path_, str] = field(default_factory=dict, compare=False)


Level = dict[Path_, Leaf]

#: Sections that a name alone can stand for: `init: he` is `init: {name: he}`.
_NAMED = (*CHOICES, *(key for key, section in SECTIONS.items() if "name" in section.model_fields))


#: Leaves of one level: more than every setting and option that there is.
MAX_LEAVES = 500


class Layer:
    """Plain settings, and where each was written."""

    def __init__(self, level: Level, default_place: str) -> None:
        self.level, self.default_place = level, default_place
        self.data: dict[str, Any] = {}
        for path, leaf in level.items():
            here = self.data
            for key in path[:-1]:
                here = here.setdefault(key, {})
            here[path[-1]] = copy.deepcopy(leaf.value)

    def place(self, path: Path_) -> str:
        """Where that key was written, or a key inside it, or the nearest section around it."""
        whole = next(
            (key for key, leaf in self.level.items() if leaf.inner and path[: len(key)] == key), None
        )
        while whole is not None and len(path) > len(whole):
            if place := self.level[whole].inner.get(path[len(whole) :]):
                return place
            path = path[:-1]
        while path:
            places = [leaf.place for key, leaf in self.level.items() if key[: len(path)] == path]
            if places:
                return places[0]
            path = path[:-1]
        return self.default_place


def open_level(raw: Mapping[str, Any], path: Path_, source: Source, mistakes: list[Mistake]) -> Level:
    """The mapping that stands at `path` of the source, with dotted keys and `<<` opened up."""
    level: Level = {}
    for lower in reversed(raw.get(MERGE, [])):
        level = _merge(level, open_level(lower, path, source, mistakes), mistakes)
    own: Level = {}
    for key, value in raw.items():
        if key != MERGE:
            add(own, _leaves(key, value, (*path, key), source, mistakes), mistakes)
    return _merge(level, own, mistakes)


def add(level: Level, leaves: Level, mistakes: list[Mistake]) -> None:
    """Put leaves into a level. Keys have no order, so two values for one key are a mistake.

    Raises ConfigError where there are more than any study has: every leaf is held against every other.
    """
    for path, leaf in leaves.items():
        if len(level) >= MAX_LEAVES:
            problem = f"more than {MAX_LEAVES} settings stand in one mapping, and a study has fewer"
            raise ConfigError(
                [Mistake(leaf.place, f"{problem}. Fix: begin keys that are not settings with x-.")]
            )
        for other in [*_related(level, path), *_other_length(level, path, leaf)]:
            before = level[other]
            if other == path and _same(before.value, leaf.value):
                continue
            first, second = ".".join(other), ".".join(path)
            problem = f"{second}: {leaf.value!r}, but {first}: {before.value!r} stands at {before.place}"
            if path != other and path[0] in LENGTHS and len(path) == 1:
                problem = f"{problem}: a run has one length"
            mistakes.append(Mistake(leaf.place, f"{problem}. Fix: leave one of them out."))
            break
        else:
            level[path] = leaf


def overlay(lower: Level, upper: Level, mistakes: list[Mistake]) -> Level:
    """A new level: the upper one, and the lower one wherever the upper one is silent.

    Options without a name belong to the default name of their section, where it has one.
    """
    return _merge(lower, upper, mistakes, DEFAULT_CHOICES)


def _merge(
    lower: Level, upper: Level, mistakes: list[Mistake], defaults: Mapping[str, str] = MappingProxyType({})
) -> Level:
    """As `overlay`; within one mapping (`<<`) options without a name wait for one: no defaults."""
    level = dict(lower)
    for section in CHOICES:
        name, before = upper.get((section, "name")), lower.get((section, "name"))
        old = _name(section, before.value) if before else defaults.get(section)
        if name and old is not None and _name(section, name.value) != old:
            level = {path: leaf for path, leaf in level.items() if path[0] != section}
    if _names_another(lower, upper, ("init", "name")):
        level.pop(("init", "std"), None)  # of the other distribution; the scale is of every one
    for path, leaf in upper.items():
        whole = next((path[:n] for n in range(len(path) - 1, 0, -1) if path[:n] in level), None)
        if whole and isinstance(level[whole].value, list):
            level[whole] = _with_element(level[whole], path, len(whole), leaf, mistakes)
            continue
        for other in [*_related(level, path), *_other_length(level, path, leaf)]:
            del level[other]
        level[path] = leaf
    return level


def _names_another(lower: Level, upper: Level, path: Path_) -> bool:
    before, now = lower.get(path), upper.get(path)
    return bool(before and now and before.value != now.value)


def _leaves(dotted: str, value: Any, path: Path_, source: Source, mistakes: list[Mistake]) -> Level:
    """The leaves of one key of a mapping, by their paths from that mapping."""
    here, place = tuple(dotted.split(".")), source.place(path)
    if not all(here):
        mistakes.append(Mistake(place, f'"{dotted}" is not a key. Fix: such as optimizer.lr.'))
        return {}
    if here == ("augment",) and isinstance(value, list):
        if not value:
            return {("augment", "name"): Leaf("none", place)}
        inside = {key[len(path) :]: at for key, at in source.places.items() if key[: len(path)] == path}
        steps = Leaf(value, place, {key: at for key, at in inside.items() if key})
        return {("augment", "name"): Leaf(SEQUENCE, place), ("augment", "steps"): steps}
    if not isinstance(value, dict):
        named = len(here) == 1 and here[0] in _NAMED
        return {(*here, "name") if named else here: Leaf(value, place)}
    inner = open_level(value, path, source, mistakes)
    if not inner and len(here) > 1:
        return {here: Leaf({}, place)}
    return {(*here, *rest): leaf for rest, leaf in inner.items()}


def _related(level: Level, path: Path_) -> list[Path_]:
    """Keys of the level that are that one, around it or in it."""
    return [key for key in level if key[: len(path)] == path[: len(key)]]


def _other_length(level: Level, path: Path_, leaf: Leaf) -> list[Path_]:
    """Of a run's length in steps the one in epochs, and the other way round; a length that is left out has none."""
    if len(path) > 1 or path[0] not in LENGTHS or means_none(leaf.value):
        return []
    others = [(key,) for key in LENGTHS if key != path[0]]
    return [other for other in others if other in level and not means_none(level[other].value)]


def _with_element(old: Leaf, path: Path_, depth: int, leaf: Leaf, mistakes: list[Mistake]) -> Leaf:
    """The list with one element changed, as `model.hidden.0: 32` says."""
    values = copy.deepcopy(old.value)
    try:
        set_in(values, path[depth:], leaf.value)
    except ValueError as error:
        mistakes.append(Mistake(leaf.place, f"{'.'.join(path)}: {error}."))
        return old
    return Leaf(values, leaf.place)


def set_in(values: Any, path: Path_, value: Any) -> None:
    """Set an element of nested lists and mappings. Raises ValueError where the element does not exist."""
    here = values
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(here, list):
            if not key.isdecimal() or int(key) >= len(here):
                raise ValueError(f"there is no element {key} in {here!r}: they are counted from 0")
            if last:
                here[int(key)] = value
            else:
                here = here[int(key)]
        elif isinstance(here, dict):
            if last:
                here[key] = value
            else:
                here = here.setdefault(key, {})
        else:
            raise ValueError(f"{here!r} has no elements")


def alive(level: Level, path: Path_, place: str) -> bool:
    """Whether the level still holds the value that was written there for that key."""
    return any(level[key].place == place for key in _related(level, path))


def sets(swept: str, key: str) -> bool:
    """Whether a swept key replaces that one."""
    return key == swept or key.startswith(f"{swept}.") or {key, swept} == set(LENGTHS)


def parted(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings, and the study's own keys, also the keys of a `<<`. x- keys are the user's: places for anchors."""
    settings: dict[str, Any] = {}
    study: dict[str, Any] = {}
    for lower in reversed(raw.get(MERGE, [])):
        below, below_study = parted(lower)
        settings.setdefault(MERGE, []).insert(0, below)
        study |= below_study
    for key, value in raw.items():
        if key in STUDY_KEYS:
            study[key] = value
        elif key != MERGE and not key.startswith("x-"):
            settings[key] = value
    return settings, study


def _name(section: str, value: Any) -> Any:
    if value is None:
        return DEFAULT_CHOICES.get(section)
    return "none" if section in CAN_BE_NONE and means_none(value) else value


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
