"""The cells of a sweep as lines along one of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnbench.results import Cell


def swept_keys(cells: Sequence[Cell]) -> list[str]:
    """Keys of the settings with more than one value."""
    keys = dict.fromkeys(key for cell in cells for key in cell.setting)
    return [key for key in keys if len({str(cell.setting.get(key)) for cell in cells}) > 1]


def lines(cells: Sequence[Cell], key: str) -> Iterator[list[Cell]]:
    """The cells of one variant that differ in nothing but that key, two or more, in the study's order."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if key in cell.setting:
            found.setdefault((cell.variant, str(without(cell.setting, key))), []).append(cell)
    return (line for line in found.values() if len(line) > 1)


def is_numeric(cells: Sequence[Cell], key: str) -> bool:
    """Whether all values of the key are positive numbers."""
    values = [cell.setting[key] for cell in cells]
    return all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in values)


def without(setting: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The setting's other keys."""
    return {name: value for name, value in setting.items() if name != key}
