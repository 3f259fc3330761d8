"""Probes made up for tests: rows of every kind, whose statistics are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from bnbench.base.histogram import bin_counts
from bnbench.results import Cell, StudyResults
from bnbench.study.records import ProbeRow, RunRecord
from tests.fabricated import cell, record, results

STEPS = (0, 1, 10, 100)


def values_of(variant: str, layer: int, step: int, seed: int) -> Any:
    """What enters the activation: without batch norm it shrinks with depth and drifts with the steps."""
    draws = np.random.default_rng([layer, step, seed]).normal(size=400)
    if variant == "none":
        draws = draws * 0.7**layer + 0.02 * step**0.5 * layer
    return draws.astype("float32")


@lru_cache(None)
def rows_of(variant: str, seed: int, layers: int = 3, steps: Sequence[int] = STEPS) -> tuple[ProbeRow, ...]:
    """The rows of one run, as probes.csv has them."""
    rows: list[ProbeRow] = []
    for step in steps:
        for factor in (0, 0.5, 1, 2, 4):
            spread = factor if variant == "none" else 0.1 * factor
            loss = (2.0 + spread + seed / 10) / (1 + step)
            rows.append(ProbeRow(step, "network", "loss_along", f"{factor:g}", loss))
        for depth in range(1, layers + 1):
            rows += _of_layer(variant, seed, depth, step)
    return tuple(rows)


def _of_layer(variant: str, seed: int, depth: int, step: int) -> list[ProbeRow]:
    name, values = f"blocks.{depth - 1}", values_of(variant, depth, step, seed)
    found: list[tuple[str, str, float]] = (
        [("depth", "", float(depth)), ("hidden", "", 1.0)] if step == 0 else []
    )
    for prefix, numbers in (("pre", values), ("post", np.maximum(values, 0))):
        found += [(f"{prefix}_mean", "", float(numbers.mean())), (f"{prefix}_std", "", float(numbers.std()))]
        found += [(f"{prefix}_histogram", bin_name, float(n)) for bin_name, n in bin_counts(numbers).items()]
    found.append(("dead_share", "", 0.25 if variant == "none" else 0.0))
    found.append(("gradient_norm", "", (2.0**depth if variant == "none" else 1.0) * (1 + seed / 10)))
    percentiles = np.percentile(values.reshape(-1, 4), (15, 50, 85), axis=0)
    for unit in range(4):
        found += [(f"unit_p{p}", str(unit), float(percentiles[i][unit])) for i, p in enumerate((15, 50, 85))]
        if variant != "none":
            found += [("gamma", str(unit), 1 + unit / 10 + step / 1000), ("beta", str(unit), unit / 5 - 0.3)]
    return [ProbeRow(step, name, quantity, unit, value) for quantity, unit, value in found]


def probed(
    inside: Mapping[str, Sequence[Mapping[str, float]]], layers: int = 3, steps: Sequence[int] = STEPS
) -> StudyResults:
    """A study whose runs have these indices, seed by seed, and the rows of `rows_of`."""
    cells: list[Cell] = []
    for variant, of_seeds in inside.items():
        runs = [replace(record(variant, seed), inside=dict(indices)) for seed, indices in enumerate(of_seeds)]
        cells.append(cell(variant, runs))

    def load(of: Cell, run: RunRecord) -> tuple[ProbeRow, ...]:
        return rows_of(of.variant, run.seed, layers, steps)

    return replace(results(*cells), probes=load)


def usual(seeds: int = 5) -> dict[str, list[dict[str, float]]]:
    """Two variants: batch norm's drift is about 13 times smaller, and its cosine is near its floor."""
    scatter = [(-1) ** seed * (seed + 1) / 40 for seed in range(seeds)]
    return {
        "none": [
            {"drift": 2.6 * (1 + s), "drift_floor": 0.1, "shift_cosine": 0.6 + s, "shift_cosine_floor": 0.9,
             "dead_share": 0.25 + s / 10, "gradient_growth": 1.0 + s / 5}
            for s in scatter
        ],
        "batch": [
            {"drift": 0.2 * (1 - s), "drift_floor": 0.1, "shift_cosine": 0.9 - s, "shift_cosine_floor": 0.9,
             "dead_share": 0.0, "gradient_growth": 1.48 - s / 5}
            for s in scatter
        ],
    }  # fmt: skip
