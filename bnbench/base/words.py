"""Texts in the languages that captions and claims are written in: those of a study, and our own (catalogue.yaml)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import resources

from bnbench.base.errors import UnknownNameError
from bnbench.base.metrics import SPLITS

#: The languages of captions and of the claims table, by their codes (ISO 639-1); the first is the default.
LANGUAGES = {"en": "English", "cs": "čeština"}
ENGLISH = "en"
#: A text that is one in every language, or texts by language.
Words = str | Mapping[str, str]
#: A phrase of the catalogue by its key, with the values of its placeholders.
Say = Callable[..., str]


def in_language(words: Words, language: str = ENGLISH) -> str:
    """The text in that language, in English where there is none in it, else in the first that there is.

    >>> in_language({"en": "speed", "cs": "rychlost"}, "cs")
    'rychlost'
    """
    if isinstance(words, str):
        return words
    return words.get(language) or words.get(ENGLISH) or next(iter(words.values()))


def plain(words: Words) -> str | dict[str, str]:
    """As a file holds it."""
    return words if isinstance(words, str) else dict(words)


def known_language(code: str) -> str:
    """The code itself. Raises UnknownNameError with the known ones."""
    if code not in LANGUAGES:
        raise UnknownNameError("language", code, LANGUAGES)
    return code


def phrases(language: str = ENGLISH) -> Say:
    """The catalogue in one language, as a function of a key and the values of its placeholders.

    >>> phrases("cs")("claims.counter", claim="hloubka 50")
    'protipříklad: hloubka 50'
    """
    texts = catalogue()

    def say(key: str, /, **values: object) -> str:
        return texts[key][language].format(**values)

    return say


def metric_in(column: str, language: str) -> str:
    """A metric in words, such as "testovací přesnost" for "test_accuracy"; "" for one that is not in the catalogue."""
    texts = catalogue()
    part, _, name = column.partition("_")
    if f"metric.{column}" in texts:
        return texts[f"metric.{column}"][language]
    if part not in SPLITS or f"metric.{name}" not in texts:
        return ""
    return texts[f"metric.{part}"][language].format(name=texts[f"metric.{name}"][language])


@functools.cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """Every phrase by its key and its language. A key that is not there is an error of ours."""
    import yaml

    text = (resources.files("bnbench.base") / "catalogue.yaml").read_text(encoding="utf-8")
    phrases: dict[str, dict[str, str]] = yaml.safe_load(text)
    return phrases
