"""Which keys of a sweep tell its settings apart, and what is compared with what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bnbench.analysis.settings import baselines_of, free_keys
from bnbench.analysis.summary import summarize
from bnbench.reports.figures.sweep_data import sweep_mean_rows, swept_values
from bnbench.results import Cell, StudyResults
from bnbench.study.records import RunRecord


def cell(variant: str, **setting: Any) -> Cell:
    return Cell(variant, {key.replace("_", "."): value for key, value in setting.items()}, "c", (0,))


CROSSED = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2)]
LINKED = [{"a": 1, "b": 0.1}, {"a": 2, "b": 0.2}]
BENT = [{"a": 1, "b": 0.1}, {"a": 2, "b": 0.1}, {"a": 4, "b": 0.3}]


@pytest.mark.parametrize(
    ("settings", "keys"),
    [(CROSSED, ["a", "b"]), (LINKED, ["a"]), (BENT, ["a"]), ([{"a": 1, "b": 2}], []), ([{}], [])],
)
def test_a_key_that_follows_another_is_not_free(settings: list[Mapping[str, Any]], keys: list[str]) -> None:
    cells = [Cell(name, setting, "c", (0,)) for name in ("x", "y") for setting in settings]
    assert free_keys(cells) == keys


def test_a_variant_without_a_swept_key_stands_at_each_of_its_values() -> None:
    cells = [cell("none"), cell("ghost", size=8), cell("ghost", size=16)]
    assert baselines_of(cells, "none") == [cells[0], cells[0], cells[0]]
    assert baselines_of(cells, "ghost") == [None, cells[1], cells[2]]  # none has two, so it has neither


def test_with_a_second_key_it_stands_at_the_same_value_of_that_one() -> None:
    cells = [cell("none", lr=1), cell("none", lr=2)]
    cells += [cell("ghost", size=size, lr=lr) for size in (8, 16) for lr in (1, 2)]
    assert baselines_of(cells, "none")[2:] == [cells[0], cells[1], cells[0], cells[1]]


def test_linked_values_that_differ_by_variant_are_at_the_same_setting() -> None:
    cells = [Cell("b32", {"lr": 0.025}, "c", (0,)), Cell("b64", {"lr": 0.05}, "c", (0,))]
    assert baselines_of(cells, "b32") == [cells[0], cells[0]]


def test_a_chart_draws_a_variant_without_the_key_at_each_of_its_values() -> None:
    def at(variant: str, **setting: Any) -> Cell:
        runs = tuple(
            RunRecord(variant, setting, seed, "c", variant, "finished", final={"test_accuracy": 0.5})
            for seed in range(3)
        )
        return Cell(variant, setting, "c", (0, 1, 2), runs)

    summary = summarize(
        StudyResults("s", "none", (), (at("none"), at("ghost", size=8), at("ghost", size=16)))
    )
    assert swept_values(summary, "size") == [8.0, 16.0]
    rows = sweep_mean_rows(summary, "test_accuracy")
    assert [(row["variant"], row["key_0"]) for row in rows] == [
        ("none", 8.0),
        ("none", 16.0),
        ("ghost", 8.0),
        ("ghost", 16.0),
    ]
