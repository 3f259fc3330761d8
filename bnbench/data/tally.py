"""Counts of the items that a reader left out or changed, by kind, with one example each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def printable(text: object) -> str:
    """The same text with what no terminal and no UTF-8 file can show written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def listed(names: Iterable[str], limit: int = 5) -> str:
    """'"a", "b" and 3 more'."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f'"{printable(name)}"' for name in names[:limit]) + more


def not_finite(wrong: npt.NDArray[np.bool_]) -> str:
    """How many values are marked: "1 value that is NaN or infinite", "2 values that are NaN or infinite"."""
    count = int(wrong.sum())
    return f"{count} value{'s' if count != 1 else ''} that {'are' if count != 1 else 'is'} NaN or infinite"


@dataclass(frozen=True)
class Remark:
    """One event of one file. value: its size, where it has one."""

    kind: str
    example: str
    value: float = 0.0


class Tally:
    """Remarks by kind, in the order in which the kinds first came."""

    def __init__(self, remarks: Iterable[Remark] = ()) -> None:
        self._by_kind: dict[str, list[Remark]] = {}
        for remark in remarks:
            self.add(remark.kind, remark.example, remark.value)

    def add(self, kind: str, example: object, value: float = 0.0) -> None:
        """Count one more."""
        self._by_kind.setdefault(kind, []).append(Remark(kind, printable(example), value))

    def count(self, kind: str) -> int:
        """The number of remarks of a kind."""
        return len(self._by_kind.get(kind, ()))

    def largest(self, kind: str) -> float | None:
        """The largest value of a kind; None where there is none."""
        return max((remark.value for remark in self._by_kind.get(kind, ())), default=None)

    def sentences(self, words: Mapping[str, str], **facts: object) -> list[str]:
        """One sentence for each kind in `words`: its text with {count}, {value} (the largest) and the facts.

        {s} is the plural ending of a noun, {v} the singular ending of a verb, according to the count.
        """
        sentences = []
        for kind, remarks in self._by_kind.items():
            if kind in words:
                worst = max(remarks, key=lambda remark: remark.value)
                forms = ("", "s") if len(remarks) == 1 else ("s", "")
                text = words[kind].format(
                    count=len(remarks), value=worst.value, s=forms[0], v=forms[1], **facts
                )
                sentences.append(f"{text}, e.g. {worst.example}")
        return sentences
