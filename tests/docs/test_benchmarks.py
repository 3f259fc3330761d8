"""The arithmetic of the benchmarks (tests/benchmarks/measuring.py). Nothing is timed here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def measuring() -> Iterator[ModuleType]:
    path = Path(__file__).parents[1] / "benchmarks" / "measuring.py"
    spec = importlib.util.spec_from_file_location("bnbench_measuring", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def runs(*seconds: tuple[str, float]) -> list[dict[str, object]]:
    return [{"variant": variant, "seconds": value} for variant, value in seconds]


def test_ratios_compare_within_a_round_only(measuring: ModuleType) -> None:
    # the machine is twice as slow in round 1: the ratio is not
    assert measuring.ratios({0: 30.0, 1: 60.0, 2: 99.0}, {0: 10.0, 1: 20.0, 3: 1.0}) == measuring.Spread(
        3, 3, 3
    )
    assert measuring.ratios({0: 30.0}, {1: 10.0}) is None


def test_spread_names_least_middle_and_most(measuring: ModuleType) -> None:
    assert measuring.Spread.of([5.0, 1.0, 2.0]).text(1, " s") == "2.0 s [1.0-5.0]"
    assert measuring.Spread.of([4.0, 1.0]).middle == 2.5
    with pytest.raises(ValueError, match="empty"):
        measuring.Spread.of([])


def test_extrapolation_counts_startup_once_and_each_variant_at_its_own_cost(measuring: ModuleType) -> None:
    # 3 s outside the runs; one seed of three variants measured, five wanted
    assert (
        measuring.extrapolated(13.0, runs(("none", 2.0), ("custom", 5.0), ("builtin", 3.0)), 5) == 3 + 5 * 10
    )
    # two seeds of one variant: their mean
    assert measuring.extrapolated(7.0, runs(("none", 2.0), ("none", 4.0)), 5) == 1 + 5 * 3


def test_extrapolation_of_a_whole_measurement_is_the_measurement(measuring: ModuleType) -> None:
    whole = runs(("none", 2.0), ("none", 2.5), ("custom", 5.0), ("custom", 4.0))
    assert measuring.extrapolated(15.25, whole, 2) == pytest.approx(15.25)


def test_only_the_one_that_is_wrong_is_named(measuring: ModuleType) -> None:
    right = {"a": {"none": 0.970}, "b": {"none": 0.971}, "c": {"none": 0.972}}
    assert measuring.disagreements(right, 0.004) == []
    (found,) = measuring.disagreements(right | {"d": {"none": 0.90}}, 0.004)
    assert found.startswith("d, none")
    (lost,) = measuring.disagreements(right | {"d": {"none": float("nan")}}, 0.004)
    assert lost.startswith("d, none")
    assert measuring.disagreements({"a": {"none": 0.97}}, 0.004) == []


def test_mean_accuracies_are_per_variant(measuring: ModuleType) -> None:
    records = [
        {"variant": "none", "test_accuracy": 0.5},
        {"variant": "none", "test_accuracy": 0.75},
        {"variant": "custom", "test_accuracy": 1.0},
    ]
    assert measuring.mean_accuracies(records) == {"none": 0.625, "custom": 1.0}


def test_every_contender_is_first_once(measuring: ModuleType) -> None:
    orders = [measuring.rotated(["a", "b", "c"], round_) for round_ in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_table_is_markdown_with_numbers_to_the_right(measuring: ModuleType) -> None:
    assert measuring.table(["who", "s"], [["bnbench", "1.5"], ["x", "12.0"]]) == (
        "| who     |    s |\n| ------- | ---: |\n| bnbench |  1.5 |\n| x       | 12.0 |"
    )
