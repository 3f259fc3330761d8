"""A against A: false verdicts are as rare as promised (the whole table: benchmarks/false_verdicts.py)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

STUDIES = 400
#: 5 % and three standard errors of so many studies.
LIMIT = 100 * (0.05 + 3 * (0.05 * 0.95 / STUDIES) ** 0.5)


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).parent / "benchmarks" / "false_verdicts.py"
    spec = importlib.util.spec_from_file_location("false_verdicts", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("outcomes", ["normal", "lognormal", "bimodal"])
def test_it_does_not_cry_wolf(simulation: ModuleType, outcomes: str) -> None:
    tally = simulation.differences(simulation.DRAWS[outcomes], 5, STUDIES, np.random.default_rng(0))
    assert 0 < float(tally.text("false verdicts")) < LIMIT
    assert float(tally.text("shown")) > 100 - LIMIT


def test_holm_holds_for_three_variants_and_without_it_they_would_not(simulation: ModuleType) -> None:
    tally = simulation.families(simulation.DRAWS["normal"], 5, STUDIES, np.random.default_rng(0))
    assert float(tally.text("with Holm")) < LIMIT < float(tally.text("without"))


def test_the_whole_table_can_be_made(simulation: ModuleType) -> None:
    lines = list(simulation.simulated(studies=2))
    assert sum(line.startswith("| ") for line in lines) == 2 * 3 + 2 * 16 + 12
