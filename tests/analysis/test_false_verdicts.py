"""A against A: false verdicts are as rare as promised (all tables: benchmarks/false_verdicts.py)."""

from __future__ import annotations

import numpy as np
import pytest
from false_verdicts import ALL, simulated
from interval_tables import DRAWS
from interval_tables import differences as one_by_one
from many_studies import OUTCOMES, RHO, differences, holm, look_by_look, p_values
from range_tables import usable_settings
from spot_check import spot_check
from verdict_tables import LOOKS, SD, best_settings

STUDIES = 2_000


def limit(studies: int) -> float:
    """5 % and three standard errors of so many studies."""
    return float(0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5)


#: Outcomes for which 5 % is promised at every number of seeds and variants, but for bimodal ones at 3 seeds.
PROMISED = [name for name, found in OUTCOMES.items() if not found.one_sided]


def share(name: str, variants: int, n: int, grain: bool = True) -> float:
    """Of the studies without a difference that have a verdict."""
    outcomes = OUTCOMES[name]
    values = differences(outcomes, np.random.default_rng(0), (STUDIES, variants, n))
    return float((holm(p_values(values, outcomes.grain if grain else 0.0)) <= 0.05).any(-1).mean())


def test_the_package_judges_a_sample_of_the_studies_alike() -> None:
    assert "all 80 studies" in spot_check(np.random.default_rng(1), 2)


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize(("variants", "n"), [(1, 5), (5, 5), (20, 5), (20, 10)])
def test_it_does_not_cry_wolf(name: str, variants: int, n: int) -> None:
    assert share(name, variants, n) < limit(STUDIES)


@pytest.mark.parametrize("name", [name for name in PROMISED if name.startswith("counts")])
def test_counts_at_three_seeds_need_the_floor(name: str) -> None:
    assert share(name, 20, 3) < limit(STUDIES)
    if OUTCOMES[name].grain > 1e-3:
        assert share(name, 20, 3, grain=False) > limit(STUDIES)


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize("variants", [1, 5, 20])
def test_looks_do_not_cry_wolf(name: str, variants: int) -> None:
    outcomes = OUTCOMES[name]
    values = differences(outcomes, np.random.default_rng(0), (STUDIES, variants, LOOKS[-1]))
    found = look_by_look(values, LOOKS, outcomes.grain)
    assert (found.decided != 0).any(-1).mean() < limit(STUDIES)


@pytest.mark.parametrize(("variants", "most"), [(1, 8), (5, 10)])
def test_an_effect_of_two_deviations_is_decided_soon(variants: int, most: float) -> None:
    values = differences(OUTCOMES["normal"], np.random.default_rng(0), (STUDIES, variants, 20))
    values[:, 0] += 2 * SD
    found = look_by_look(values, LOOKS)
    assert (found.decided[:, 0] == 1).mean() > 0.99
    assert found.seeds[:, 0].mean() <= most


def test_looking_without_a_plan_would_cry_wolf() -> None:
    values = differences(OUTCOMES["normal"], np.random.default_rng(0), (STUDIES, 1, 20))
    naive = np.any([p_values(values[..., :n]) <= 0.05 for n in LOOKS[:3]], axis=0).mean()
    assert naive > limit(STUDIES)


def test_other_seeds_choose_the_best_settings() -> None:
    rows = list(best_settings(STUDIES, np.random.default_rng(0)))[2:]
    numbers = [[float(cell) for cell in row.strip("| ").split(" | ")] for row in rows]
    worst_before = max(row[3] for row in numbers)
    assert worst_before > 100 * limit(STUDIES)
    assert max(max(row[4], row[6]) for row in numbers) < 100 * limit(STUDIES)


def test_bounds_of_usable_ranges_hold_the_truth() -> None:
    rows = list(usable_settings(2_000, np.random.default_rng(0)))[2:]
    numbers = [[float(cell) for cell in row.strip("| ").split(" | ")] for row in rows]
    assert min(min(row[2], row[3]) for row in numbers) >= 95
    assert max(row[4] for row in numbers) <= 5


@pytest.mark.parametrize("outcomes", ["normal", "lognormal", "bimodal"])
def test_the_interval_that_is_shown(outcomes: str) -> None:
    tally = one_by_one(DRAWS[outcomes], 5, 400, np.random.default_rng(0))
    assert float(tally.text("shown")) > 100 * (1 - limit(400))


@pytest.mark.slow
def test_every_table_can_be_made() -> None:
    assert RHO == 0.3
    lines = list(simulated(20, list(ALL)))
    assert sum(line.startswith("| ---") for line in lines) == len(ALL)
