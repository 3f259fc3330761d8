"""Words in a row, and counts with their noun."""

from __future__ import annotations

from collections.abc import Iterable


def listed(items: Iterable[str]) -> str:
    """For example "a", "a and b", "a, b and c"."""
    texts = list(items)
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def counted(count: int, noun: str) -> str:
    """For example "1 seed", "5 seeds", "1,200 runs"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
