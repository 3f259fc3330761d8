"""The examples in the statistics' docstrings. Oracle: the published numbers that they quote."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["methods.intervals", "methods.resampling", "methods.power", "rates"])
def test_the_examples_give_the_published_numbers(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"bnbench.analysis.{name}"))
    assert result.failed == 0
    assert result.attempted > 0
