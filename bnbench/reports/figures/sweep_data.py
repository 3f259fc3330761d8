"""What the figures of a sweep draw: rows by the swept values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.pairs import Phase
from bnbench.base.metrics import value_of
from bnbench.reports.figures.data import Row, band, cell_of, in_unit, name_of
from bnbench.reports.numbers import MAX_DECIMALS
from bnbench.reports.tables.table import baseline_first


def swept_keys(summary: Summary) -> list[str]:
    """The keys that take more than one value over the study's settings, but those that follow others."""
    return list(summary.swept_keys)


def swept_values(summary: Summary, key: str) -> list[Any]:
    """The values of a swept key: numbers in order, anything else as text in the study's order."""
    given = (variant.setting[key] for variant in summary.variants if key in variant.setting)
    values = list(dict.fromkeys(map(_axis_value, given)))
    return sorted(values) if all(isinstance(value, float) for value in values) else [str(v) for v in values]


def _axis_value(value: Any) -> float | str:
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else name_of(str(value))
    )


def _swept(summary: Summary) -> Iterator[tuple[VariantSummary, Row]]:
    """Every cell with key_0, key_1, ...: the values of the swept keys, in their order.

    A variant without a key is the same at each of its values: it stands at all of them.
    """
    keys = swept_keys(summary)
    values = [[_axis_value(value) for value in swept_values(summary, key)] for key in keys]
    for variant in baseline_first(summary):
        here = [
            [_axis_value(variant.setting[key])] if key in variant.setting else everywhere
            for key, everywhere in zip(keys, values, strict=True)
        ]
        for at in itertools.product(*here):
            yield variant, {f"key_{i}": value for i, value in enumerate(at)}


def sweep_mean_rows(summary: Summary, column: str, at: Phase = "final") -> list[Row]:
    """One row a cell: the swept values by their key, the mean over seeds and its standard deviation."""
    return [
        {
            **cell_of(variant),
            **swept,
            "mean": in_unit(column, spread.mean),
            **band("mean", column, spread),
            "failed": len(variant.runs) - variant.outcomes["finished"],
        }
        for variant, swept in _swept(summary)
        for spread in [variant.spreads[at, column]]
    ]


def distinct_texts(values: Sequence[float], *, percent: bool) -> dict[float, str]:
    """Value -> text, with as many decimals as it takes that values which differ read differently."""
    values = list(dict.fromkeys(values))
    decimals = range(1 if percent else 3, MAX_DECIMALS + 1) if max(map(abs, values), default=0) < 1e5 else ()
    forms = [*(f".{count}f" for count in decimals), *(f".{digits}g" for digits in range(3, 7))]
    for form in forms:
        texts = {value: f"{value:{form}}" for value in values}
        if len(set(texts.values())) == len(texts) and all(float(texts[v]) for v in texts if v):
            return texts
    return {value: f"{value:.6g}" for value in values}


def sweep_seed_rows(summary: Summary, column: str) -> list[Row]:
    """One row a run that has a number at all: the swept values, the final number and the outcome."""
    return [
        {
            **cell_of(variant),
            **swept,
            "seed": run.seed,
            "outcome": run.outcome,
            "value": value,
        }
        for variant, swept in _swept(summary)
        for run in variant.runs
        for value in [in_unit(column, value_of(run.final, column))]
        if value is not None
    ]
