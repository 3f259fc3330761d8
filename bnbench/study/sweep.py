"""`sweep`: the settings at which every variant is trained.

Three ways to write one: lists, which are crossed; beside them keys that follow others by a formula
(`optimizer.lr: 0.1 * batch_size / 128`); or the settings themselves, one mapping each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bnbench.study.arithmetic import Formula, read_formula
from bnbench.study.yaml_source import MERGE, Path_

#: More cells than any table can show.
MAX_CELLS = 10_000
#: Cells times seeds.
MAX_RUNS = 100_000

Wrong = Callable[[Path_, str], None]


@dataclass(frozen=True)
class Sweep:
    """lists: values by key, crossed. formulas: keys that follow others. rows: the settings, one by one."""

    lists: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    formulas: Mapping[str, Formula] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that it sets."""
        return (*self.lists, *self.formulas, *dict.fromkeys(key for row in self.rows for key in row))

    def __len__(self) -> int:
        return len(self.rows) or math.prod(map(len, self.lists.values()))

    def settings(self) -> Iterator[dict[str, Any]]:
        """Every setting without the keys that follow; one that is empty where nothing is swept."""
        if self.rows:
            yield from map(dict, self.rows)
            return
        for values in itertools.product(*self.lists.values()):
            yield dict(zip(self.lists, values, strict=True))

    def row_of(self, setting: Mapping[str, Any]) -> int | None:
        """Which of the rows that setting is, None where it is none of them."""
        return self._places.get(repr(sorted(setting.items())))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {repr(sorted(row.items())): place for place, row in enumerate(self.rows)}

    def mapped(self, change: Callable[[str, Any], Any]) -> Sweep:
        """With other values: change(key, value)."""
        lists = {key: tuple(change(key, value) for value in values) for key, values in self.lists.items()}
        rows = tuple({key: change(key, value) for key, value in row.items()} for row in self.rows)
        return Sweep(lists, self.formulas, rows)

    def written(self) -> Any:
        """As a study writes it."""
        if self.rows:
            return [dict(row) for row in self.rows]
        lists = {key: list(values) for key, values in self.lists.items()}
        return lists | {key: formula.text for key, formula in self.formulas.items()}


def read_sweep(given: Any, wrong: Wrong) -> Sweep:
    """What is wrong with it is handed to `wrong`, with its path."""
    if given is None or given == {}:
        return Sweep()
    if isinstance(given, list) and given:
        return Sweep(rows=tuple(_rows(given, wrong)))
    if not isinstance(given, dict):
        wrong(
            ("sweep",),
            "sweep is not a mapping of keys to lists. Fix: sweep: {optimizer.lr: [0.01, 0.1]}, or a list of "
            "settings, sweep: [{batch_size: 32, optimizer.lr: 0.1}, {batch_size: 64, optimizer.lr: 0.2}].",
        )
        return Sweep()
    lists: dict[str, tuple[Any, ...]] = {}
    formulas: dict[str, Formula] = {}
    for key, values, path in _flat(given, ("sweep",)):
        if key in lists or key in formulas:
            wrong(path, f"sweep.{key} stands there twice. Fix: leave one of them out.")
        elif isinstance(values, str):
            try:
                formulas[key] = read_formula(values)
            except ValueError as error:
                fix = f"Fix: a list, [{values}, ...], or a formula in other keys, such as 0.1 * batch_size / 128"
                wrong(path, f"sweep.{key}: {_short(values)} is neither a list nor a formula: {error}. {fix}.")
        elif not isinstance(values, list) or not values:
            wrong(path, f"sweep.{key}: {_short(values)} is not a list with values in it.")
        elif (again := _repeated(values)) is not None:
            wrong(path, f"sweep.{key}: {_short(values)} repeats a value: {_short(again)}.")
        else:
            lists[key] = tuple(values)
    return Sweep(lists, formulas)


def follow(
    formulas: Mapping[str, Formula], setting: Mapping[str, Any], value_of: Callable[[str], Any]
) -> dict[str, Any]:
    """The setting with the keys that follow; value_of: a key's value in the variant itself. Raises ValueError."""
    values = dict(setting)
    todo = dict(formulas)
    while todo:
        ready = [key for key, formula in todo.items() if not set(formula.keys) & set(todo)]
        if not ready:
            raise ValueError(f"{' and '.join(todo)} follow each other in a circle")
        for key in ready:
            formula = todo.pop(key)
            number = formula.value(lambda name: _number(name, values.get(name, _MISSING), value_of))
            values[key] = _whole_or_float(number)
    return values


def _whole_or_float(number: float) -> int | float:
    """An integer where it is one but for rounding: 0.2 ** -3 is 125."""
    if abs(number) >= 2**53 or not math.isclose(number, round(number), rel_tol=1e-12):
        return number
    return round(number)


_MISSING = object()


def _number(key: str, swept: Any, value_of: Callable[[str], Any]) -> float:
    value = value_of(key) if swept is _MISSING else swept
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}, not a number")
    return value


def _rows(given: list[Any], wrong: Wrong) -> Iterator[Mapping[str, Any]]:
    first = next((set(one) for one in given if isinstance(one, dict)), set())
    seen: set[str] = set()
    for index, row in enumerate(given):
        path = ("sweep", str(index))
        if not isinstance(row, dict) or not row:
            fix = "Fix: a mapping of keys to values, such as {batch_size: 32, optimizer.lr: 0.1}"
            wrong(path, f"sweep.{index}: {_short(row)} is not a setting. {fix}.")
            continue
        flat = {key: value for key, value, _ in _flat(row, path)}
        written = repr(sorted(flat.items()))
        if set(row) != first:
            missing = ", ".join(sorted(first ^ set(row)))
            wrong(path, f"sweep.{index}: every setting has the same keys; here {missing} differs.")
        elif written in seen:
            wrong(path, f"sweep.{index}: {_short(row)} repeats a setting.")
        else:
            seen.add(written)
            yield flat


def _flat(values: Mapping[str, Any], path: Path_) -> Iterator[tuple[str, Any, Path_]]:
    """Dotted keys, values and where they stand; `optimizer: {lr: [...]}` is `optimizer.lr: [...]`."""
    merged: dict[str, Any] = {}
    for lower in reversed(values.get(MERGE, [])):
        merged |= lower
    for key, value in {**merged, **values}.items():
        if key == MERGE:
            continue
        if isinstance(value, dict) and value and "name" not in value and path == ("sweep",):
            yield from ((f"{key}.{inner}", leaf, where) for inner, leaf, where in _deep(value, (*path, key)))
        else:
            yield key, value, (*path, key)


def _deep(values: Mapping[str, Any], path: Path_) -> Iterator[tuple[str, Any, Path_]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from ((f"{key}.{inner}", leaf, where) for inner, leaf, where in _deep(value, (*path, key)))
        else:
            yield key, value, (*path, key)


def _repeated(values: list[Any]) -> Any:
    seen: set[str] = set()
    for value in values:
        if repr(value) in seen:
            return value
        seen.add(repr(value))
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
