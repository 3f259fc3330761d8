"""The probes of a whole study as flat rows: those of every run, with its variant, setting and seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from bnbench.analysis.inside.contents import Inside
from bnbench.base.files import strict
from bnbench.results import StudyResults
from bnbench.results.probes import Probed


def index_records(inside: Inside) -> list[dict[str, Any]]:
    """One flat row for each index of each variant, with its comparison; None where there is none."""
    contrasts = {(contrast.index, contrast.label): contrast for contrast in inside.contrasts}
    records = []
    for spread in inside.spreads:
        contrast = contrasts.get((spread.index, spread.label))
        records.append(
            {
                "index": spread.index,
                "variant": spread.variant,
                **{f"setting.{key}": value for key, value in spread.setting.items()},
                **{name: getattr(spread, name) for name in _OF_SPREAD},
                **{name: getattr(contrast, name, None) for name in _OF_CONTRAST},
                "effect_low": contrast.low if contrast else None,
                "effect_high": contrast.high if contrast else None,
                "pairs": contrast.n if contrast else None,
            }
        )
    return [strict(record) for record in records]


_OF_SPREAD = (
    "scale", "mean", "low", "high", "n", "planned", "floor", "over_floor", "over_floor_low", "over_floor_high",
    "above_floor",
)  # fmt: skip
_OF_CONTRAST = ("baseline", "effect", "p", "p_holm", "family", "shown")


def probe_records(results: StudyResults) -> Iterator[dict[str, Any]]:
    """One flat row for each number: variant, setting.KEY, seed, step, layer, depth, quantity, unit, value.

    depth: the layer's number from 1, None for the network as a whole. value: None where it is not finite. Runs whose
    rows can't be read are left out; the summary warns of them.
    """
    for cell in results.cells:
        setting = {f"setting.{key}": value for key, value in cell.setting.items()}
        for run in cell.records:
            rows = None
            with suppress(ValueError, OSError):
                rows = results.probes(cell, run)
            depths = Probed(rows).layers.depths if rows else {}
            for step, layer, quantity, unit, value in rows or ():
                yield {
                    "variant": cell.variant, **setting, "seed": run.seed, "step": step, "layer": layer,
                    "depth": depths.get(layer), "quantity": quantity, "unit": unit, "value": strict(value),
                }  # fmt: skip
