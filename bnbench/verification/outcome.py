"""The outcomes of a check: it returns (passed), or it raises `Wrong` or `Skip`."""

from __future__ import annotations

from collections.abc import Sequence


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
