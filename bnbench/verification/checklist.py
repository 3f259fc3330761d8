"""The list of all checks, and what a function needs to become one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bnbench.verification.findings import Group
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.subject import Subject


def causes_of(function: Callable[[Subject], None], subject: Subject) -> tuple[str, ...]:
    """The causes of another check's failure: one mistake can fail more than one check."""
    try:
        function(subject)
    except Wrong as wrong:
        return wrong.causes
    except Skip:
        pass
    return ()


@dataclass(frozen=True)
class Check:
    """One question to a layer. needs: the parts it must have. ranks: numbers of axes that it makes sense for."""

    name: str
    run: Callable[[Subject], None]
    group: Group
    needs: tuple[str, ...]
    ranks: tuple[int, ...]


#: All checks, in the order of the table.
CHECKS: list[Check] = []


def check(
    name: str,
    *,
    group: Group = "mathematics",
    needs: Sequence[str] = (),
    ranks: Sequence[int] = (2, 3, 4, 5),
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Decorator: a function of a subject becomes a check."""

    def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        CHECKS.append(Check(name, function, group, tuple(needs), tuple(ranks)))
        return function

    return add
