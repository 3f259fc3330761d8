"""The probes of a whole study as flat rows: those of every run, with its variant, setting and seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from bnbench.base.files import strict
from bnbench.results import StudyResults
from bnbench.results.probes import Probed


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
