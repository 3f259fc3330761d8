"""Which seeds a study has."""

from __future__ import annotations

from collections import Counter
from typing import Any

#: More replicates than this no table can show.
MAX_SEEDS = 10_000
#: Seeds are kept as 64-bit integers.
LARGEST_SEED = 2**63 - 1


def read_seeds(given: Any) -> tuple[int, ...]:
    """A number of seeds, counted from 0, or the seeds themselves. Raises ValueError with the fault."""
    number = whole(given)
    if number is not None:
        if not 1 <= number <= MAX_SEEDS:
            raise ValueError(f"seeds: {given!r}: a study has 1 to {MAX_SEEDS:,} seeds.")
        return tuple(range(number))
    if not isinstance(given, list) or not given:
        raise ValueError(
            f"seeds: {_short(given)} is neither a number of seeds nor a list. Fix: seeds: 5, or seeds: [0, 1, 2]."
        )
    if len(given) > MAX_SEEDS:
        raise ValueError(f"seeds: a list of {len(given):,}: a study has at most {MAX_SEEDS:,} seeds.")
    seeds = [whole(seed) for seed in given]
    for seed, written in zip(seeds, given, strict=True):
        if seed is None or not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"seeds: {_short(written)} is not a seed: an integer from 0 to 2**63 - 1.")
    repeated = sorted(seed for seed, count in Counter(seeds).items() if count > 1 and seed is not None)
    if repeated:
        listed = ", ".join(map(str, repeated[:10])) + (" ..." if len(repeated) > 10 else "")
        raise ValueError(f"seeds: {listed} repeated. The same seed twice is one run, not two replicates.")
    return tuple(seed for seed in seeds if seed is not None)


def whole(value: Any) -> int | None:
    """The integer that a number stands for (1e1 is 10), None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
