"""Heads of attention, each with an equal part of the width."""

from __future__ import annotations


def equal_heads(heads: int, width: int) -> str:
    """The fix where `heads` does not divide `width`: heads and a width that go together, near these."""
    divisors = (number for number in range(1, width + 1) if width % number == 0)
    fewer = min(divisors, key=lambda number: (abs(number - heads), number))
    return f"heads: {fewer}, or width: {-(-width // heads) * heads}."
