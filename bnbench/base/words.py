"""Texts in the languages that captions and claims are written in."""

from __future__ import annotations

from collections.abc import Mapping

from bnbench.base.errors import UnknownNameError

#: The languages of captions and of the claims table, by their codes (ISO 639-1); the first is the default.
LANGUAGES = {"en": "English", "cs": "čeština"}
ENGLISH = "en"
#: A text that is one in every language, or texts by language.
Words = str | Mapping[str, str]


def in_language(words: Words, language: str = ENGLISH) -> str:
    """The text in that language, in English where there is none in it, else in the first that there is.

    >>> in_language({"en": "speed", "cs": "rychlost"}, "cs")
    'rychlost'
    """
    if isinstance(words, str):
        return words
    return words.get(language) or words.get(ENGLISH) or next(iter(words.values()))


def known_language(code: str) -> str:
    """The code itself. Raises UnknownNameError with the known ones."""
    if code not in LANGUAGES:
        raise UnknownNameError("language", code, LANGUAGES)
    return code
