"""The inside of the networks in summary.json: the indices, and the layers at the first and the last probed step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from bnbench.analysis.inside.contents import Inside, LayerNumber
from bnbench.analysis.inside.indices import IndexContrast, IndexSpread
from bnbench.analysis.inside.layers import SHOWN
from bnbench.analysis.pairs import Spread


def inside_values(inside: Inside) -> dict[str, Any]:
    """As plain values. Histograms and units stay in probes.csv."""
    steps = sorted({number.step for number in inside.numbers})
    ends = {*steps[:1], *steps[-1:]}
    return {
        "indices": [_with_values(vars(spread), "value") for spread in inside.spreads],
        "comparisons": [_with_values(vars(contrast), "effect") for contrast in inside.contrasts],
        "layers": [
            {**vars(number), "spread": asdict(number.spread)}
            for number in inside.numbers
            if number.step in ends and number.quantity in SHOWN
        ],
    }


def stored_inside(values: Mapping[str, Any] | None) -> Inside:
    """What such values say; nothing where there are none. Raises ValueError and the like where they are damaged."""
    if not values:
        return Inside()
    spreads = [_pairs(item, "value") for item in values["indices"]]
    contrasts = [_pairs(item, "effect") for item in values["comparisons"]]
    return Inside(
        asked=True,
        spreads=TypeAdapter(tuple[IndexSpread, ...]).validate_python(spreads),
        contrasts=TypeAdapter(tuple[IndexContrast, ...]).validate_python(contrasts),
        numbers=tuple(
            LayerNumber(**{**item, "spread": TypeAdapter(Spread).validate_python(item["spread"])})
            for item in values["layers"]
        ),
    )


def _with_values(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Each seed's number as a mapping with its seed."""
    return {**fields, "values": [{"seed": seed, name: value} for seed, value in fields["values"]]}


def _pairs(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**item, "values": [(value["seed"], value[name]) for value in item["values"]]}
