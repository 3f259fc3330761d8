"""A mistake in a batch norm: a change of the formula, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bnbench.verification.formulas import Formula

ALL_RANKS = (2, 3, 4, 5)


FORWARD = ("forward", "dx", "dgamma", "dbeta", "eval output")


BACKWARD = ("dx", "dgamma", "dbeta")


@dataclass(frozen=True)
class Cause:
    """A mistake: its description, its change of the formula, and the checks in which it can show."""

    words: str
    change: tuple[tuple[str, Any], ...]
    shows_in: tuple[str, ...]
    ranks: tuple[int, ...] = ALL_RANKS
    pairs: bool = True  # whether it is tried together with another mistake

    def applied(self, formula: Formula) -> Formula:
        """The formula with this mistake."""
        return replace(formula, **dict(self.change))

    def __str__(self) -> str:
        return self.words


def cause(
    shows_in: tuple[str, ...],
    words: str,
    ranks: tuple[int, ...] = ALL_RANKS,
    pairs: bool = True,
    **change: Any,
) -> Cause:
    """A cause with the change of the formula as keywords."""
    return Cause(words, tuple(change.items()), shows_in, ranks, pairs)
