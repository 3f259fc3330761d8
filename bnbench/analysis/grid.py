"""The cells of a sweep as lines along one of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnbench.results import Cell


def lines(cells: Sequence[Cell], key: str, others: Sequence[str]) -> Iterator[list[Cell]]:
    """The cells of one variant that differ in nothing but that key, two or more, in the study's order.

    others: the other swept keys, without those that follow it.
    """
    by_setting: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if key in cell.setting:
            by_setting.setdefault((cell.variant, str(part(cell.setting, others))), []).append(cell)
    return (line for line in by_setting.values() if len(line) > 1)


def is_numeric(cells: Sequence[Cell], key: str) -> bool:
    """Whether all values of the key are positive numbers."""
    values = [cell.setting[key] for cell in cells]
    return all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in values)


def only_looked_at(cells: Sequence[Cell]) -> bool:
    """Whether there are runs, and no step was planned for any of them."""
    records = [record for cell in cells for record in cell.records]
    return bool(records) and all(record.was_only_looked_at for record in records)


def part(setting: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """These keys of a setting, where it has them."""
    return {key: setting[key] for key in keys if key in setting}
