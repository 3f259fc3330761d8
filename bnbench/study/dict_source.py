"""A study, or overrides, given as Python values: read by the same rules as YAML, with a key where YAML has a line.

Dicts, lists, tuples, ranges, text, numbers, truth values and None are taken, and so are NumPy's numbers and arrays (as
Python's), enums (by their values) and paths (as text). A key is text; a whole number is taken as its text, as YAML
takes `1:`. Everything else is a mistake, as no YAML file could hold it.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Mapping
from typing import Any

from bnbench.base.errors import ConfigError, Mistake
from bnbench.study.yaml_nodes import MAX_DEPTH, MAX_DIGITS, MAX_NODES, word
from bnbench.study.yaml_source import MERGE, TEXTS, Path_, Source, read_value, to_flow

_ROOT = "study"


def read_dict(values: Mapping[Any, Any]) -> Source:
    """The study that a dict holds. Raises ConfigError where it is empty or nested without end."""
    if not values:
        raise ConfigError([Mistake(_ROOT, 'it is empty. Fix: {"dataset": "mnist", ...}.')])
    source = Source(places={(): _ROOT})
    source.data = _Reader(source).value(values, (), _ROOT)
    return source


def override_texts(overrides: Mapping[str, Any]) -> list[str]:
    """{"optimizer.lr": 0.1} as the words of a command line: ["optimizer.lr=0.1"]. Raises ConfigError."""
    source = Source()
    texts = []
    for key, value in overrides.items():
        place = f"overrides[{key!r}]"
        if not isinstance(key, str) or "=" in key or not key.strip():
            problem = f'{key!r} is not a key. Fix: a key of the study, such as "optimizer.lr".'
            source.mistakes.append(Mistake(place, problem))
            continue
        converted = _Reader(source).value(value, (key.strip(),), place)
        text = to_flow(converted)
        if not source.mistakes and read_value(text, key.strip()) != converted and converted == converted:
            source.mistakes.append(Mistake(place, f"{value!r} can't be written as YAML."))
        texts.append(f"{key.strip()}={text}")
    if source.mistakes:
        raise ConfigError(source.mistakes)
    return texts


class _Reader:
    """Turns Python values into plain ones; gathers mistakes in the source, and where each key stands."""

    def __init__(self, source: Source) -> None:
        self._source, self._count = source, 0

    def value(self, value: Any, path: Path_, place: str) -> Any:
        self._count += 1
        if self._count > MAX_NODES:
            raise ConfigError([Mistake(place, f"it holds more than {MAX_NODES:,} keys and values.")])
        if place.count("[") > MAX_DEPTH:
            raise ConfigError([Mistake(place[:60] + "...", "it is nested too deeply.")])
        value = _python_value(value)
        if isinstance(value, Mapping):
            return self._mapping(value, path, place)
        if isinstance(value, range) and len(value) <= MAX_NODES:
            value = list(value)
        if isinstance(value, list | tuple):
            items = []
            for index, item in enumerate(value):
                here = f"{place}[{index}]"
                self._source.places[(*path, str(index))] = here
                items.append(self.value(item, (*path, str(index)), here))
            return items
        try:
            scalar = _scalar(value)
        except ValueError as error:
            self._source.mistakes.append(Mistake(place, f"{error}."))
            self._source.unreadable.add(place)
            return None
        is_text = bool(path) and path[-1] in TEXTS and len(path) in (1, 3)
        return to_flow(scalar) if is_text and isinstance(scalar, int | float) else scalar

    def _mapping(self, values: Mapping[Any, Any], path: Path_, place: str) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        if MERGE in values:
            mapping[MERGE] = self._merged(values[MERGE], path, f'{place}["{MERGE}"]')
        for given, value in values.items():
            here = f"{place}[{_quoted_key(given)}]"
            try:
                key = _key(given)
            except ValueError as error:
                self._source.mistakes.append(Mistake(here, f"{error}."))
                continue
            if key == MERGE:
                continue
            if key in mapping:
                self._source.mistakes.append(Mistake(here, f'duplicate key "{key}".'))
                continue
            self._source.places[(*path, key)] = here
            mapping[key] = self.value(value, (*path, key), here)
        return mapping

    def _merged(self, value: Any, path: Path_, place: str) -> list[dict[str, Any]]:
        """The mappings of a `<<` key, the one that wins first."""
        levels: list[dict[str, Any]] = []
        for level in reversed(list(value) if isinstance(value, list | tuple) else [value]):
            if isinstance(level, Mapping):
                levels.insert(0, self._mapping(level, path, place))
            else:
                self._source.mistakes.append(Mistake(place, "<< takes a dict, or a list of dicts."))
        return levels


def _python_value(value: Any) -> Any:
    """NumPy's numbers and arrays, enums and paths as Python's own values."""
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(value, numpy.generic | numpy.ndarray):
        value = value.tolist()
    if isinstance(value, enum.Enum):
        value = value.value
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _scalar(value: Any) -> bool | int | float | str | None:
    """The plain value. Raises ValueError where no YAML file could hold it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if len(str(abs(value))) > MAX_DIGITS + 1:
            raise ValueError(f"an integer of {len(str(abs(value))):,} digits is too large here")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return word(str(value))
    kind = f"the class {value.__name__}" if isinstance(value, type) else _article(type(value).__name__)
    raise ValueError(f"{kind} can't stand in a study. {_fix(value)}")


def _fix(value: Any) -> str:
    if isinstance(value, type) or callable(value):
        return 'Fix: register it under a name (bnbench.norms.norms.register("mine"), for a layer), and give the name'
    if isinstance(value, set | frozenset):
        return "Fix: a list, which has an order"
    if hasattr(value, "tolist"):
        return "Fix: .tolist()"
    return "Fix: text, a number, True, False, None, or a list or dict of them"


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return word(str(key))
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    raise ValueError(f"the key {key!r} is not text. Fix: put it into quotes")


def _quoted_key(key: Any) -> str:
    """A key as Python writes it, in double quotes."""
    return f'"{key}"' if isinstance(key, str) and '"' not in key else repr(key)
