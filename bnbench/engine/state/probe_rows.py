"""Rows of probes as columns of numbers: a run may have a million of them, which JSON would take long to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bnbench.study.records import ProbeRow

_TEXTS = ("layer", "quantity", "unit")


def columns_of(rows: Sequence[ProbeRow]) -> dict[str, Any]:
    """Values to the last bit; every text once, with the places where it stands."""
    columns: dict[str, Any] = {
        "step": torch.tensor([row.step for row in rows], dtype=torch.int64),
        "value": torch.tensor([row.value for row in rows], dtype=torch.float64),
    }
    for name in _TEXTS:
        texts = [getattr(row, name) for row in rows]
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        columns[name] = [list(places), torch.tensor([places[text] for text in texts], dtype=torch.int64)]
    return columns


def rows_of(columns: Mapping[str, Any]) -> list[ProbeRow]:
    """And back."""
    steps, values = columns["step"].tolist(), columns["value"].tolist()
    texts = [[columns[name][0][place] for place in columns[name][1].tolist()] for name in _TEXTS]
    return [ProbeRow(*row) for row in zip(steps, *texts, values, strict=True)]
