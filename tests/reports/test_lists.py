"""What `check` says of the size of a study: a variant is a variant, whatever is swept."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from bnbench.base.machine import Memory
from bnbench.base.terminal_console import SafeConsole
from bnbench.reports.tables import lists
from bnbench.reports.tables.lists import print_plan
from bnbench.study.plan import CellEstimate


@pytest.mark.parametrize(
    ("variants", "settings", "seeds", "right"),
    [
        (3, 3, 5, "s: 3 variants x 3 settings x 5 seeds = 45 runs"),
        (3, 1, 5, "s: 3 variants x 5 seeds = 15 runs"),
        (1, 1, 1, "s: 1 variant x 1 seed = 1 run"),
    ],
)
def test_the_size_of_a_study(variants: int, settings: int, seeds: int, right: str) -> None:
    cells = [SimpleNamespace(variant=f"v{i}") for i in range(variants) for _ in range(settings)]
    study = SimpleNamespace(
        name="s", cells=cells, seeds=tuple(range(seeds)), baseline="v0", targets=(), warnings=(), looks=()
    )
    estimates = [CellEstimate(f"v{i}", 7, 100, 1.0, 2**20) for i in range(len(cells))]
    console = SafeConsole(file=io.StringIO(), width=80)
    print_plan(console, study, estimates)  # type: ignore[arg-type]
    assert console.file.getvalue().splitlines()[0] == right  # type: ignore[attr-defined]


def test_the_memory_of_the_workers_and_of_the_place() -> None:
    """The largest worker is named; a warning where all of them need more than is free."""
    cells = [
        CellEstimate("none", 7, 100, 1.0, 2**30, worker_bytes=2**30, workers=2, together_bytes=5 * 2**30),
        CellEstimate(
            "batch", 7, 100, 1.0, 2**30, worker_bytes=3 * 2**30, workers=2, together_bytes=5 * 2**30
        ),
    ]
    text, warning = lists._memory(cells, Memory(2**32, 2**31, container=True))
    assert text == (
        "Memory: 2 workers at a time, each with up to 3.0 GiB (batch); together about 5.0 GiB; the container has "
        "4.0 GiB, and 2.0 GiB of it are free."
    )
    assert warning.startswith("Warning: that is more than is free.")
    assert len(list(lists._memory(cells, Memory(2**34, 2**33)))) == 1
    alone = [CellEstimate("none", 7, 100, 1.0, 400 * 2**20)]
    assert list(lists._memory(alone, Memory(None, None))) == ["Memory: one process, about 400 MiB (none)."]
