"""How a check ends: by returning (passed), or by raising `Wrong` or `Skip`; and the list of all checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnbench.verify.subject import Subject


class Skip(Exception):
    """The check has no meaning for this layer; the reason, as half a sentence."""


class Wrong(Exception):
    """The layer does something else than it should.

    size, tolerance: the relative error and what is allowed. causes: usual mistakes that give exactly this.
    """

    def __init__(
        self,
        message: str,
        size: float | None = None,
        tolerance: float | None = None,
        causes: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message, self.size, self.tolerance, self.causes = message, size, tolerance, tuple(causes)


def causes_of(function: Callable[[Subject], None], subject: Subject) -> tuple[str, ...]:
    """What that check finds to be wrong, where it fails: the same mistake shows in several places."""
    try:
        function(subject)
    except Wrong as wrong:
        return wrong.causes
    except Skip:
        pass
    return ()


def first_line(error: BaseException) -> str:
    """ "ValueError: what it says", on one line."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True)
class Check:
    """One question to a layer. needs: the parts it must have. ranks: numbers of axes that it makes sense for."""

    name: str
    run: Callable[[Subject], None]
    needs: tuple[str, ...]
    ranks: tuple[int, ...]


#: All checks, in the order of the table.
CHECKS: list[Check] = []


def check(
    name: str, *, needs: Sequence[str] = (), ranks: Sequence[int] = (2, 3, 4)
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Decorator: a function of a subject becomes a check."""

    def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        CHECKS.append(Check(name, function, tuple(needs), tuple(ranks)))
        return function

    return add
