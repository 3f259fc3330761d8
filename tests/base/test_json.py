"""JSON of files, against the encoder of the standard library: the same text to the byte."""

from __future__ import annotations

import json
import math
import random
from types import MappingProxyType
from typing import Any

import pytest

from bnbench.base.files import strict, to_json


def value(draw: random.Random, depth: int = 0) -> Any:
    """Anything that a summary may hold, and more: nested, empty, of mixed keys, not finite."""
    scalars = ['a"é\n', "\ud83d", draw.randint(-5, 10**20), draw.random() * 10.0 ** draw.randint(-20, 20)]
    scalars += [None, True, math.nan, -math.inf]
    if depth > 3 or draw.random() < 0.5:
        return draw.choice(scalars)
    items = [value(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    keys = [draw.choice(["key", "ключ", 1, 2.5, True, None]) for _ in items]
    mapping = {
        key if place % 2 else f"k{place}": item
        for place, (key, item) in enumerate(zip(keys, items, strict=True))
    }
    return draw.choice([items, tuple(items), mapping, MappingProxyType(mapping)])


@pytest.mark.parametrize("ascii", [True, False])
def test_json_is_that_of_the_standard_library(ascii: bool) -> None:
    draw = random.Random(1)
    for _ in range(2000):
        given = value(draw)
        expected = json.dumps(strict(given), indent=1, allow_nan=False, ensure_ascii=ascii) + "\n"
        assert to_json(given, ascii=ascii) == expected
