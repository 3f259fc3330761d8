"""Comparisons and evaluations as flat rows, ready for a table of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.analysis.serial import setting_columns
from bnbench.base.files import strict


def comparison_rows(comparisons: Iterable[Difference]) -> list[dict[str, Any]]:
    """One flat row a comparison; the differences of single seeds are left to summary.json."""
    return [strict(dict(_flat(comparison))) for comparison in comparisons]


def _flat(comparison: Difference) -> Iterator[tuple[str, Any]]:
    for name, value in vars(comparison).items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        elif name != "values":
            yield name, value


def history_rows(summary: Summary) -> list[dict[str, Any]]:
    """One flat row for every evaluation of every run."""
    return [
        strict(
            {
                "variant": variant.variant,
                **setting_columns(variant),
                "seed": run.seed,
                "step": row.step,
                "epoch": row.epoch,
                "train_seconds": row.train_seconds,
                "batch_loss": row.batch_loss,
                **row.metrics,
            }
        )
        for variant in summary.variants
        for run in variant.runs
        for row in run.history
    ]
