"""A fault of each rule, found at its place, and not in the healthy twin: a small form of the doctor's benchmark.

The faults are written from the rules' definitions in tests/benchmarks/doctor_injections.py, which has ten networks and
more for each.
"""

from __future__ import annotations

from pathlib import Path

import pytest

RULES = [f"D{number:02}" for number in range(1, 27)]


@pytest.mark.slow
def test_the_benchmark_has_ten_faults_of_every_rule() -> None:
    from doctor_injections import INJECTIONS

    by_rule = {rule: {one.network for one in INJECTIONS if one.rule == rule} for rule in RULES}
    assert {rule: len(networks) for rule, networks in by_rule.items() if len(networks) < 10} == {}
    assert {one.rule for one in INJECTIONS} == set(RULES)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_fault_is_found_and_its_healthy_twin_is_not_accused(rule: str, tmp_path: Path) -> None:
    from doctor_faults import measured
    from doctor_injections import INJECTIONS

    first = next(one for one in INJECTIONS if one.rule == rule)
    result = measured(first, tmp_path, audit=False)
    assert result.found, result
    assert not result.accused, result
