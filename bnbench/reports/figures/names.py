"""Names in figures: how wide they are, and how a long one is folded. None is ever cut."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Letters of a name in one line beside a plot; a wide letter (Chinese) counts as two.
LINE_LETTERS = 20


def text_width(text: str, font_size: float) -> float:
    """Pixels of a text in a font like Helvetica, rather too many than too few."""
    return font_size * sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    if letter in "iljI.,:;'|!()[]ft ":
        return 0.38
    if letter in "mwMW@%":
        return 1.0
    if not letter.isascii():
        return 1.05
    return 0.75 if letter.isupper() else 0.6


def widest(texts: Iterable[str], font_size: float) -> float:
    """Pixels of the widest of them; 0 without any."""
    return max((text_width(text, font_size) for text in texts), default=0.0)


def fold(name: str) -> list[str]:
    """A name in lines of at most LINE_LETTERS: broken at spaces, a longer word after a sign, else anywhere.

    "batch @ optimizer.lr=0.1" gives "batch @", "optimizer.lr=0.1". The lines together are the name, but for the
    spaces between them.
    """
    return _filled(name.split(), " ") or [name]


def _filled(parts: Iterable[str], between: str) -> list[str]:
    """Parts in lines, as many in each as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and _letters(joined := lines[-1] + between + part) <= LINE_LETTERS:
            lines[-1] = joined
        elif _letters(part) <= LINE_LETTERS:
            lines.append(part)
        else:
            lines += _broken(part)
    return lines


def _broken(word: str) -> list[str]:
    pieces = re.findall(r"[^_\-=,./:]*[_\-=,./:]+|[^_\-=,./:]+", word)
    return _filled(pieces, "") if len(pieces) > 1 else _cut(word)


def _cut(word: str) -> list[str]:
    """A word without a sign, in pieces that fill their lines."""
    lines = [""]
    for letter in word:
        if _letters(lines[-1] + letter) > LINE_LETTERS:
            lines.append("")
        lines[-1] += letter
    return lines


def _letters(text: str) -> int:
    return sum(1 if letter.isascii() else 2 for letter in text)
