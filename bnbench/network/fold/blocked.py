"""Why a normalization can't be folded."""

from __future__ import annotations


class Blocked(Exception):
    """What stands in the way. place: the module or function, "" for none. touchable: the network's structure alone.

    `touchable` is false where the layers stand as a fold needs them, but one must not be changed: it is read twice,
    has hooks, or its weight is tied. Such a site is refused; the others are left.
    """

    def __init__(self, reason: str, place: str = "", *, touchable: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.place, self.touchable = reason, place, touchable

    def __str__(self) -> str:
        if not self.place or self.place in self.reason.split():
            return self.reason
        return f"{self.reason} ({self.place})"


def untouchable(reason: str, place: str = "") -> Blocked:
    """A layer that stands where it should, and that must not be changed."""
    return Blocked(reason, place, touchable=False)
